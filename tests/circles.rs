//! Files import each other in one direction: no circle of imports, but for the few that are named here with a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Circles there are, by one file of each, and why.
const KNOWN: &[(&str, &str)] = &[("capture/processor.rs", "a span tells its processors, and they are handed the span")];

type Module = Vec<String>;

struct Source {
    name: String,
    file: syn::File,
}

/// Every file of the library, by the module that it is; those of tests left out.
fn sources() -> BTreeMap<Module, Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let named = found.into_iter().map(|path| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        (name, path)
    });
    let read =
        named.filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("/tests/")).map(|(name, path)| {
            let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
            let module = match name.trim_end_matches(".rs") {
                "lib" => Vec::new(),
                path => path.split('/').map(str::to_owned).collect(),
            };
            (module, Source { name, file })
        });
    read.collect()
}

/// One name that a file imports, from the root of the crate on, and whether the file passes it on to others.
struct Import {
    path: Module,
    is_passed_on: bool,
}

/// The names that `file`, which is `module`, imports from the crate.
fn imports(file: &syn::File, module: &Module, modules: &BTreeMap<Module, Source>) -> Vec<Import> {
    fn expand(tree: &syn::UseTree, mut path: Module, found: &mut Vec<Module>) {
        match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                expand(&step.tree, path, found);
            }
            syn::UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                found.push(path);
            }
            syn::UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                found.push(path);
            }
            syn::UseTree::Glob(_) => found.push(path),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| expand(tree, path.clone(), found)),
        }
    }
    let mut imports = Vec::new();
    for item in &file.items {
        let syn::Item::Use(import) = item else { continue };
        let is_passed_on = !matches!(import.vis, syn::Visibility::Inherited);
        let mut paths = Vec::new();
        expand(&import.tree, Vec::new(), &mut paths);
        let whole = paths.into_iter().filter_map(|path| absolute(path, module, modules));
        imports.extend(whole.map(|path| Import { path, is_passed_on }));
    }
    imports
}

/// A path from the root of the crate on; none if it leads elsewhere.
fn absolute(path: Module, module: &Module, modules: &BTreeMap<Module, Source>) -> Option<Module> {
    let supers = path.iter().take_while(|step| *step == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&[][..], &path[1..]),
        "self" => (&module[..], &path[1..]),
        "super" => (&module[..module.len().checked_sub(supers)?], &path[supers..]),
        first => {
            let child = [&module[..], &[first.to_owned()]].concat();
            (if modules.contains_key(&child) { Some(&module[..]) } else { None }?, &path[..])
        }
    };
    Some([base, rest].concat())
}

/// The file that a path leads to, through what others pass on.
fn resolved(path: &Module, passed_on: &BTreeMap<(Module, String), Module>, depth: usize) -> Option<Module> {
    if depth > 10 {
        return None;
    }
    let modules: BTreeSet<_> = passed_on.keys().map(|(module, _)| module).collect();
    for len in (0..=path.len()).rev() {
        let (module, rest) = path.split_at(len);
        let module = module.to_vec();
        if let Some(name) = rest.first()
            && let Some(target) = passed_on.get(&(module.clone(), name.clone()))
            && target != path
        {
            let target = [&target[..], &rest[1..]].concat();
            return resolved(&target, passed_on, depth + 1);
        }
        if modules.contains(&module) {
            return Some(module);
        }
    }
    None
}

/// What imports what, by the names of files.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let modules = sources();
    let mut all = Vec::new();
    let mut passed_on = BTreeMap::new();
    for (module, source) in &modules {
        // So that every module is known, whatever it passes on.
        passed_on.insert((module.clone(), String::new()), module.clone());
        for import in imports(&source.file, module, &modules) {
            if import.is_passed_on
                && let Some(name) = import.path.last()
            {
                passed_on.insert((module.clone(), name.clone()), import.path.clone());
            }
            all.push((module, import));
        }
    }
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for (module, import) in all {
        let Some(target) = resolved(&import.path, &passed_on, 0) else { continue };
        // A folder's file passes on what is in the folder; that is no use of it.
        let is_own = import.is_passed_on && target.starts_with(module);
        if let Some(source) = modules.get(&target).filter(|_| target != *module && !target.is_empty() && !is_own) {
            graph.entry(modules[module].name.clone()).or_default().insert(source.name.clone());
        }
    }
    graph
}

/// Everything that `from` leads to.
fn reached(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(file) = next.pop() {
        for import in graph.get(&file).into_iter().flatten() {
            if reached.insert(import.clone()) {
                next.push(import.clone());
            }
        }
    }
    reached
}

#[test]
fn files_import_each_other_in_one_direction() {
    let graph = graph();
    assert!(graph["capture/tracer.rs"].contains("capture/recorder.rs"), "imports are read");
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reached(&graph, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, leads_to) in &reached {
        if leads_to.contains(*file) {
            let back = |other: &&String| reached.get(other).is_some_and(|back| back.contains(*file));
            circles.insert(leads_to.iter().filter(back).cloned().collect::<BTreeSet<_>>());
        }
    }
    let is_known = |circle: &&BTreeSet<String>| KNOWN.iter().any(|(file, _)| circle.contains(*file));
    let unknown: Vec<_> = circles.iter().filter(|circle| !is_known(circle)).collect();
    assert!(unknown.is_empty(), "circles of imports: {unknown:#?}");
    assert_eq!(circles.len(), KNOWN.len(), "a circle that is known is there no more");
}
