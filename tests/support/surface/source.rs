//! The modules of a crate as they are compiled with all features, and which name means what in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, ItemImpl, Meta, UseTree, Visibility, punctuated::Punctuated, token::Comma};

use super::expand::Macros;

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Module(Vec<String>),
    Item(Vec<String>, String),
}

#[derive(Default)]
struct Module {
    items: Vec<Item>,
    uses: Vec<Use>,
    /// Those that are declared in it, and which of them are public.
    children: BTreeMap<String, bool>,
}

struct Use {
    name: String,
    path: Vec<String>,
    is_public: bool,
}

#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
    macros: Macros,
}

pub(crate) fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// What is not compiled into the library, or is no part of the interface.
pub(crate) fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_hidden = |meta: &Meta| {
            meta.path().is_ident("doc") && meta.require_list().is_ok_and(|list| list.tokens.to_string() == "hidden")
        };
        let is_off = |meta: &Meta| {
            let condition = meta.require_list().ok().and_then(|list| list.parse_args::<Meta>().ok());
            meta.path().is_ident("cfg") && condition.is_some_and(|condition| !holds(&condition))
        };
        is_hidden(&attribute.meta) || is_off(&attribute.meta)
    })
}

/// With all features but that of the benchmarks, on Linux.
fn holds(condition: &Meta) -> bool {
    let each = |list: &syn::MetaList| {
        list.parse_args_with(Punctuated::<Meta, Comma>::parse_terminated).unwrap().iter().map(holds).collect::<Vec<_>>()
    };
    match condition {
        Meta::Path(path) => path.is_ident("unix"),
        Meta::NameValue(pair) => {
            let value = quote::ToTokens::to_token_stream(&pair.value).to_string();
            match pair.path.get_ident().unwrap().to_string().as_str() {
                "feature" => value != "\"bench\"",
                "target_os" => value == "\"linux\"",
                "target_arch" => value == "\"x86_64\"",
                _ => false,
            }
        }
        Meta::List(list) if list.path.is_ident("not") => !each(list)[0],
        Meta::List(list) if list.path.is_ident("all") => each(list).into_iter().all(|holds| holds),
        Meta::List(list) => each(list).into_iter().any(|holds| holds),
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name and the visibility of what can be named.
fn named(item: &Item) -> Option<(String, &Visibility)> {
    let (name, visibility) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((name.to_string(), visibility))
}

impl Crate {
    /// Reads the crate whose root is `lib.rs` in this directory.
    pub(crate) fn read(source: &Path) -> Self {
        let mut read = Self::default();
        read.file(&source.join("lib.rs"), source, Vec::new());
        read
    }

    fn file(&mut self, file: &Path, directory: &Path, path: Vec<String>) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if !is_left_out(&parsed.attrs) {
            self.modules.insert(path.clone(), Module::default());
            self.items(parsed.items, directory, &path);
        }
    }

    fn items(&mut self, items: Vec<Item>, directory: &Path, path: &[String]) {
        for item in items {
            if is_left_out(attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(item) => {
                    let name = item.ident.to_string();
                    let inner: Vec<_> = path.iter().cloned().chain([name.clone()]).collect();
                    let below: PathBuf = directory.join(&name);
                    match item.content {
                        Some((_, items)) => {
                            self.modules.insert(inner.clone(), Module::default());
                            self.items(items, &below, &inner);
                        }
                        None => self.file(&directory.join(format!("{name}.rs")), &below, inner.clone()),
                    }
                    if self.modules.contains_key(&inner) {
                        self.module(path).children.insert(name, is_public(&item.vis));
                    }
                }
                Item::Use(item) => {
                    let is_public = is_public(&item.vis);
                    let mut found = Vec::new();
                    flatten(&item.tree, &mut Vec::new(), &mut found);
                    let uses = found.into_iter().map(|(name, path)| Use { name, path, is_public });
                    self.module(path).uses.extend(uses);
                }
                Item::Macro(item) if item.mac.path.is_ident("macro_rules") => {
                    self.macros.declare(&item.ident.unwrap().to_string(), item.mac.tokens);
                }
                Item::Macro(item) => {
                    let name = item.mac.path.segments.last().unwrap().ident.to_string();
                    if let Some(expanded) = self.macros.expand(&name, item.mac.tokens) {
                        let expanded: syn::File = syn::parse2(expanded).unwrap();
                        self.items(expanded.items, directory, path);
                    }
                }
                item => self.module(path).items.push(item),
            }
        }
    }

    fn module(&mut self, path: &[String]) -> &mut Module {
        self.modules.get_mut(path).unwrap()
    }

    pub(crate) fn item(&self, module: &[String], name: &str) -> Option<&Item> {
        let is_it = |item: &&Item| named(item).is_some_and(|(known, _)| known == name);
        self.modules.get(module)?.items.iter().find(is_it)
    }

    /// Every implementation with the module it stands in.
    pub(crate) fn impls(&self) -> impl Iterator<Item = (&[String], &ItemImpl)> {
        self.modules.iter().flat_map(|(path, module)| {
            module.items.iter().filter_map(move |item| match item {
                Item::Impl(block) => Some((path.as_slice(), block)),
                _ => None,
            })
        })
    }

    /// The names that a module offers, and what they mean: the path where that is of others.
    pub(crate) fn public_names(&self, path: &[String]) -> Vec<(String, Result<Target, String>)> {
        let module = &self.modules[path];
        let child = |name: &String| Target::Module(path.iter().cloned().chain([name.clone()]).collect());
        let modules = module.children.iter().filter(|(_, is_public)| **is_public);
        let modules = modules.map(|(name, _)| (name.clone(), Ok(child(name))));
        let items = module.items.iter().filter_map(named).filter(|(_, visibility)| is_public(visibility));
        let items = items.map(|(name, _)| (name.clone(), Ok(Target::Item(path.to_vec(), name))));
        let uses = module.uses.iter().filter(|of| of.is_public);
        let uses = uses.map(|of| (of.name.clone(), self.resolve(path, &of.path).ok_or_else(|| of.path.join("::"))));
        modules.chain(items).chain(uses).collect()
    }

    /// What a path means in a module; none if it leads out of the crate.
    pub(crate) fn resolve(&self, module: &[String], path: &[String]) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Target::Module(Vec::new()),
            "self" => Target::Module(module.to_vec()),
            "super" => Target::Module(module[..module.len().checked_sub(1)?].to_vec()),
            name => self.lookup(module, name, !rest.is_empty())?,
        };
        rest.iter().enumerate().try_fold(start, |target, (at, name)| match target {
            Target::Module(module) if name == "super" => Some(Target::Module(module[..module.len() - 1].to_vec())),
            Target::Module(module) => self.lookup(&module, name, at + 1 < rest.len()),
            Target::Item(..) => None,
        })
    }

    /// What one name means; a function and a module may share it.
    fn lookup(&self, module: &[String], name: &str, is_module: bool) -> Option<Target> {
        let found = self.modules.get(module)?;
        if !is_module && self.item(module, name).is_some() {
            return Some(Target::Item(module.to_vec(), name.to_owned()));
        }
        let used = || found.uses.iter().filter(|of| of.name == name).find_map(|of| self.resolve(module, &of.path));
        let child = found.children.contains_key(name);
        let child = child.then(|| Target::Module(module.iter().cloned().chain([name.to_owned()]).collect()));
        if is_module { child.or_else(used) } else { used().or(child) }
    }
}

/// The names that a `use` brings in, with their paths.
fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    let with = |path: &[String], last: String| path.iter().cloned().chain([last]).collect::<Vec<_>>();
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, found);
            path.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, found)),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((path.last().unwrap().clone(), path.clone()));
        }
        UseTree::Name(name) => found.push((name.ident.to_string(), with(path, name.ident.to_string()))),
        UseTree::Rename(name) => found.push((name.rename.to_string(), with(path, name.ident.to_string()))),
        UseTree::Glob(_) => {}
    }
}
