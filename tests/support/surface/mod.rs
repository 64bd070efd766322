//! The public surface of this crate, read from its source: what a program can name, and how.

mod expand;
mod source;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, TraitItem, Type, Visibility};

pub(crate) use source::Crate;
use source::{Target, is_public};
use words::{signature, tidy};

/// What is public: its lines, and what can be asked about it.
#[derive(Default)]
pub(crate) struct Surface {
    /// One for each thing that can be named, sorted.
    pub(crate) lines: Vec<String>,
    /// Structs and enums by their paths, with the traits they implement.
    pub(crate) types: BTreeMap<String, BTreeSet<String>>,
    /// Functions that take `self` and answer `Self`, where neither they nor their type say `must_use`.
    pub(crate) idle: Vec<String>,
}

/// Where something is declared: its module and its name.
type Declared = (Vec<String>, String);

pub(crate) fn surface(of: &Crate) -> Surface {
    let mut surface = Surface::default();
    let (paths, others) = public_paths(of);
    surface.lines = others;
    for (declared, path) in &paths {
        let item = of.item(&declared.0, &declared.1).expect("it was found before");
        surface.describe(item, path);
    }
    for (module, block) in of.impls() {
        surface.implement(of, &paths, module, block);
    }
    // What belongs to one type stands together, the type first.
    surface.lines.sort_by_cached_key(|line| (path_in(line).to_owned(), line.starts_with("impl"), line.clone()));
    surface.lines.dedup();
    surface
}

/// What can be reached from the root: each declaration with the first path to it, and lines for the other paths.
fn public_paths(of: &Crate) -> (BTreeMap<Declared, String>, Vec<String>) {
    let (mut paths, mut others) = (BTreeMap::new(), Vec::new());
    // What has no name there, as a trait in a prelude.
    let mut nameless = Vec::new();
    let mut modules = VecDeque::from([(Vec::<String>::new(), "otlp".to_owned())]);
    let mut seen = BTreeSet::new();
    while let Some((module, path)) = modules.pop_front() {
        if !seen.insert((module.clone(), path.clone())) {
            continue;
        }
        others.push(format!("pub mod {path}"));
        let mut found = Vec::new();
        for (name, target) in of.public_names(&module) {
            match target {
                Ok(Target::Module(inner)) => modules.push_back((inner, format!("{path}::{name}"))),
                Ok(Target::Item(module, item)) => found.push(((module, item), name)),
                Err(foreign) => others.push(format!("pub use {foreign} as {path}::{name}")),
            }
        }
        found.sort();
        for (declared, name) in found {
            let path = format!("{path}::{name}");
            if name == "_" {
                nameless.push((declared, path));
                continue;
            }
            match paths.get(&declared) {
                Some(first) => others.push(format!("pub use {first} as {path}")),
                None => _ = paths.insert(declared, path),
            }
        }
    }
    for (declared, path) in nameless {
        let first = paths.get(&declared).expect("what is offered without a name has one elsewhere");
        others.push(format!("pub use {first} as {path}"));
    }
    (paths, others)
}

/// The path that a line is about.
pub(crate) fn path_in(line: &str) -> &str {
    let ours = line.rfind(" as otlp").or(line.rfind(" for otlp")).map(|at| at + 4).or(line.find("otlp"));
    let path = line[ours.unwrap_or(0)..].trim_start();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let path = &path[..path.find(|c| !is_part(c)).unwrap_or(path.len())];
    path.trim_end_matches(':')
}

fn has(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(name))
}

/// What a reader of the signature has to know.
fn marks(attributes: &[Attribute]) -> String {
    ["non_exhaustive", "must_use"]
        .iter()
        .filter(|name| has(attributes, name))
        .map(|name| format!("#[{name}] "))
        .collect()
}

fn derived(attributes: &[Attribute]) -> Vec<String> {
    let mut names = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        attribute
            .parse_nested_meta(|meta| {
                names.push(tidy(&meta.path));
                Ok(())
            })
            .unwrap();
    }
    names
}

impl Surface {
    fn describe(&mut self, item: &Item, path: &str) {
        match item {
            Item::Struct(item) => {
                let generics = tidy(&item.generics);
                self.lines.push(format!("{}pub struct {path}{generics}", marks(&item.attrs)));
                self.fields(&item.fields, path, true);
                self.derive(&item.attrs, path);
            }
            Item::Enum(item) => {
                let generics = tidy(&item.generics);
                self.lines.push(format!("{}pub enum {path}{generics}", marks(&item.attrs)));
                for variant in &item.variants {
                    let variant_path = format!("{path}::{}", variant.ident);
                    let kind = match &variant.fields {
                        Fields::Named(_) => " {}".to_owned(),
                        Fields::Unnamed(fields) => {
                            format!(
                                "({})",
                                fields.unnamed.iter().map(|field| tidy(&field.ty)).collect::<Vec<_>>().join(", ")
                            )
                        }
                        Fields::Unit => String::new(),
                    };
                    self.lines.push(format!("{}pub {variant_path}{kind}", marks(&variant.attrs)));
                    if let Fields::Named(_) = variant.fields {
                        self.fields(&variant.fields, &variant_path, false);
                    }
                }
                self.derive(&item.attrs, path);
            }
            Item::Trait(item) => {
                let bounds: Vec<_> = item.supertraits.iter().map(tidy).collect();
                let bounds = if bounds.is_empty() { String::new() } else { format!(": {}", bounds.join(" + ")) };
                self.lines.push(format!("{}pub trait {path}{}{bounds}", marks(&item.attrs), tidy(&item.generics)));
                for part in &item.items {
                    match part {
                        TraitItem::Fn(function) => {
                            let provided = if function.default.is_some() { " (provided)" } else { "" };
                            let shown = signature(&function.sig, &format!("{path}::{}", function.sig.ident));
                            self.lines.push(format!("{}pub {shown}{provided}", marks(&function.attrs)));
                        }
                        TraitItem::Type(of) => self.lines.push(format!("pub type {path}::{}", of.ident)),
                        TraitItem::Const(of) => {
                            self.lines.push(format!("pub const {path}::{}: {}", of.ident, tidy(&of.ty)));
                        }
                        other => panic!("{path} has {}", tidy(other)),
                    }
                }
            }
            Item::Fn(item) => self.lines.push(format!("{}pub {}", marks(&item.attrs), signature(&item.sig, path))),
            Item::Const(item) => self.lines.push(format!("pub const {path}: {}", tidy(&item.ty))),
            Item::Static(item) => self.lines.push(format!("pub static {path}: {}", tidy(&item.ty))),
            Item::Type(item) => {
                self.lines.push(format!("pub type {path}{} = {}", tidy(&item.generics), tidy(&item.ty)));
            }
            other => panic!("{path} is {}", tidy(other)),
        }
    }

    fn fields(&mut self, fields: &Fields, path: &str, are_private: bool) {
        for (at, field) in fields.iter().enumerate() {
            if !are_private || matches!(field.vis, Visibility::Public(_)) {
                let name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
                self.lines.push(format!("pub {path}::{name}: {}", tidy(&field.ty)));
            }
        }
    }

    fn derive(&mut self, attributes: &[Attribute], path: &str) {
        let traits = self.types.entry(path.to_owned()).or_default();
        for name in derived(attributes) {
            self.lines.push(format!("impl {name} for {path}"));
            traits.insert(name);
        }
        if has(attributes, "must_use") {
            traits.insert("must_use".to_owned());
        }
    }

    fn implement(&mut self, of: &Crate, paths: &BTreeMap<Declared, String>, module: &[String], block: &ItemImpl) {
        let declared = |segments: Vec<String>| match of.resolve(module, &segments) {
            Some(Target::Item(module, item)) => Some((module, item)),
            _ => None,
        };
        let segments = |path: &syn::Path| path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let own = match &*block.self_ty {
            Type::Path(path) => declared(segments(&path.path)),
            Type::TraitObject(object) => object.bounds.iter().find_map(|bound| match bound {
                syn::TypeParamBound::Trait(bound) => declared(segments(&bound.path)),
                _ => None,
            }),
            _ => None,
        };
        let path = own.as_ref().and_then(|own| paths.get(own));
        let Some((_, of_trait, _)) = &block.trait_ else {
            let Some(path) = path else { return };
            return self.inherent(block, path);
        };
        let ours = declared(segments(of_trait));
        let is_public_trait = ours.as_ref().map(|ours| paths.contains_key(ours));
        // Of a trait of others for a type of ours, or of ours for whatever type.
        let is_public = match (is_public_trait, &own) {
            (Some(is_public), Some(_)) => is_public && path.is_some(),
            (Some(is_public), None) => is_public,
            (None, _) => path.is_some(),
        };
        if !is_public {
            return;
        }
        let mut shown = tidy(&block.self_ty);
        if let (Some(path), Some((_, name))) = (path, &own) {
            shown = shown.replacen(name.as_str(), path, 1);
        }
        let (generics, _, clause) = (&block.generics, (), &block.generics.where_clause);
        let clause = clause.as_ref().map_or_else(String::new, |clause| format!(" {}", tidy(clause)));
        let name = match ours.as_ref().and_then(|ours| paths.get(ours)) {
            Some(path) => path.clone(),
            None => tidy(of_trait),
        };
        self.lines.push(format!("impl{} {name} for {shown}{clause}", tidy(generics)));
        if let Some(path) = path {
            let name = of_trait.segments.last().unwrap().ident.to_string();
            // Not of a trait, which may implement others as an object.
            self.types.get_mut(path).into_iter().for_each(|traits| _ = traits.insert(name.clone()));
        }
    }

    fn inherent(&mut self, block: &ItemImpl, path: &str) {
        for part in &block.items {
            match part {
                ImplItem::Fn(function) if is_public(&function.vis) && !source::is_left_out(&function.attrs) => {
                    let function_path = format!("{path}::{}", function.sig.ident);
                    let shown = signature(&function.sig, &function_path);
                    self.lines.push(format!("{}pub {shown}", marks(&function.attrs)));
                    let takes_self = function
                        .sig
                        .receiver()
                        .is_some_and(|receiver| receiver.reference.is_none() || receiver.mutability.is_none());
                    let is_marked = has(&function.attrs, "must_use") || self.types[path].contains("must_use");
                    if takes_self && shown.ends_with("-> Self") && !is_marked {
                        self.idle.push(function_path);
                    }
                }
                ImplItem::Const(of) if is_public(&of.vis) && !source::is_left_out(&of.attrs) => {
                    self.lines.push(format!("pub const {path}::{}: {}", of.ident, tidy(&of.ty)));
                }
                _ => {}
            }
        }
    }
}
