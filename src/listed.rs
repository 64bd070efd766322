//! Enums that know all their variants: the list is made with the enum, so that none can be forgotten in it.

/// Declares an enum without fields, with `ALL`, its variants in the order of their declaration, and `COUNT`, how many
/// there are. A variant cast to an integer is its place in the list.
///
/// Both are for the crate. Behind the word `public` the list is part of the interface: a slice then, since the type of
/// an array would change with each variant.
macro_rules! listed {
    (public $(#[$meta:meta])* pub enum $name:ident { $($(#[$of:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        pub enum $name { $($(#[$of])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            #[allow(dead_code)]
            pub(crate) const COUNT: usize = Self::ALL.len();
        }
    };
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$of:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        $vis enum $name { $($(#[$of])* $variant,)+ }

        impl $name {
            #[allow(dead_code)]
            pub(crate) const COUNT: usize = [$(stringify!($variant)),+].len();
            /// Each of them, in the order of their declaration.
            #[allow(dead_code)]
            pub(crate) const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::error::DropReason;

    listed! {
        #[derive(Debug, Clone, Copy, PartialEq)]
        enum Colour {
            /// Said of roses.
            Red,
            Blue,
        }
    }

    #[test]
    fn a_list_has_each_variant_at_its_own_place() {
        assert_eq!((Colour::COUNT, Colour::ALL), (2, [Colour::Red, Colour::Blue]));
        assert!(Colour::ALL.iter().enumerate().all(|(at, colour)| *colour as usize == at));
        assert_eq!((DropReason::COUNT, DropReason::ALL[0]), (DropReason::ALL.len(), DropReason::QueueFull));
    }
}
