//! Tokens as people write them.

use quote::ToTokens;
use syn::{FnArg, Pat, Signature};

/// Tokens on one line, with spaces where rustfmt would have them.
pub(crate) fn tidy(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string().replace('\n', " ");
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        ("( ", "("),
        (" )", ")"),
        (" (", "("),
        ("[ ", "["),
        (" ]", "]"),
        (" ,", ","),
        (",)", ")"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (",>", ">"),
        ("& ", "&"),
        (" ;", ";"),
        (" : ", ": "),
        ("->(", "-> ("),
        ("? Sized", "?Sized"),
        ("impl<", "impl <"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// A function called `path`, without what only its body needs to know.
pub(crate) fn signature(of: &Signature, path: &str) -> String {
    let inputs: Vec<_> = of
        .inputs
        .iter()
        .map(|input| match input {
            FnArg::Receiver(receiver) => match (&receiver.reference, &receiver.mutability) {
                (None, _) => "self".to_owned(),
                (Some((_, lifetime)), mutability) => {
                    let lifetime = lifetime.as_ref().map_or_else(String::new, |lifetime| format!("{lifetime} "));
                    format!("&{lifetime}{}self", if mutability.is_some() { "mut " } else { "" })
                }
            },
            FnArg::Typed(typed) => {
                let name = match &*typed.pat {
                    Pat::Ident(name) => name.ident.to_string(),
                    _ => "_".to_owned(),
                };
                format!("{name}: {}", tidy(&typed.ty))
            }
        })
        .collect();
    let constness = if of.constness.is_some() { "const " } else { "" };
    let unsafety = if of.unsafety.is_some() { "unsafe " } else { "" };
    let output = tidy(&of.output);
    let output = if output.is_empty() { output } else { format!(" {output}") };
    let clause = of.generics.where_clause.as_ref().map_or_else(String::new, |clause| format!(" {}", tidy(clause)));
    format!("{constness}{unsafety}fn {path}{}({}){output}{clause}", tidy(&of.generics), inputs.join(", "))
}
