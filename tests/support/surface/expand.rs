//! What the macros of a source come to: as much of `macro_rules!` as declares items here.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// The macros that a crate declares, by name.
#[derive(Default)]
pub(crate) struct Macros(BTreeMap<String, Vec<Rule>>);

struct Rule {
    pattern: Vec<Part>,
    body: Vec<Part>,
}

enum Part {
    Token(TokenTree),
    Group(Delimiter, Vec<Part>),
    /// With the kind of fragment, in a pattern.
    Variable(String, String),
    Repeated(Vec<Part>, Option<String>),
}

enum Bound {
    One(TokenStream),
    Each(Vec<Bindings>),
}

type Bindings = BTreeMap<String, Bound>;

impl Macros {
    pub(crate) fn declare(&mut self, name: &str, rules: TokenStream) {
        let tokens: Vec<_> = rules.into_iter().collect();
        let groups: Vec<_> = tokens
            .iter()
            .filter_map(|token| match token {
                TokenTree::Group(group) => Some(parts(group.stream())),
                _ => None,
            })
            .collect();
        let mut groups = groups.into_iter();
        let mut rules = Vec::new();
        while let (Some(pattern), Some(body)) = (groups.next(), groups.next()) {
            rules.push(Rule { pattern, body });
        }
        self.0.insert(name.to_owned(), rules);
    }

    /// What an invocation comes to; none of a macro that is not declared here.
    pub(crate) fn expand(&self, name: &str, given: TokenStream) -> Option<TokenStream> {
        let given: Vec<_> = given.into_iter().collect();
        let rules = self.0.get(name)?;
        let expanded = rules.iter().find_map(|rule| {
            let (bindings, end) = matched(&rule.pattern, &given, 0)?;
            (end == given.len()).then(|| transcribed(&rule.body, &[&bindings]))
        });
        Some(expanded.unwrap_or_else(|| panic!("no rule of {name}! takes this")))
    }
}

fn parts(tokens: TokenStream) -> Vec<Part> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let (mut parts_found, mut at) = (Vec::new(), 0);
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token: &TokenTree| token.to_string() == text);
    while at < tokens.len() {
        match (&tokens[at], tokens.get(at + 1)) {
            (TokenTree::Punct(punct), Some(TokenTree::Ident(name))) if punct.as_char() == '$' => {
                let has_kind = is(at + 2, ":") && !is(at + 3, ":");
                let kind = if has_kind { tokens[at + 3].to_string() } else { String::new() };
                parts_found.push(Part::Variable(name.to_string(), kind));
                at += if has_kind { 4 } else { 2 };
            }
            (TokenTree::Punct(punct), Some(TokenTree::Group(group))) if punct.as_char() == '$' => {
                let is_operator = |at| is(at, "*") || is(at, "+") || is(at, "?");
                let separator = (!is_operator(at + 2)).then(|| tokens[at + 2].to_string());
                at += if separator.is_some() { 4 } else { 3 };
                parts_found.push(Part::Repeated(parts(group.stream()), separator));
            }
            (TokenTree::Group(group), _) => {
                parts_found.push(Part::Group(group.delimiter(), parts(group.stream())));
                at += 1;
            }
            (token, _) => {
                parts_found.push(Part::Token(token.clone()));
                at += 1;
            }
        }
    }
    parts_found
}

/// What a pattern binds, and where it ends.
fn matched(pattern: &[Part], given: &[TokenTree], mut at: usize) -> Option<(Bindings, usize)> {
    let mut bindings = Bindings::new();
    for part in pattern {
        match part {
            Part::Token(token) => {
                if given.get(at)?.to_string() != token.to_string() {
                    return None;
                }
                at += 1;
            }
            Part::Group(delimiter, inner) => {
                let TokenTree::Group(group) = given.get(at)? else { return None };
                let inside: Vec<_> = group.stream().into_iter().collect();
                let (bound, end) = matched(inner, &inside, 0)?;
                if group.delimiter() != *delimiter || end != inside.len() {
                    return None;
                }
                bindings.extend(bound);
                at += 1;
            }
            Part::Variable(name, kind) => {
                let end = fragment(kind, given, at)?;
                bindings.insert(name.clone(), Bound::One(given[at..end].iter().cloned().collect()));
                at = end;
            }
            Part::Repeated(inner, separator) => {
                let mut each = Vec::new();
                loop {
                    let begin = match separator {
                        Some(separator) if !each.is_empty() => {
                            if given.get(at).is_none_or(|token| token.to_string() != *separator) {
                                break;
                            }
                            at + 1
                        }
                        _ => at,
                    };
                    match matched(inner, given, begin) {
                        Some((bound, end)) if end > begin => {
                            each.push(bound);
                            at = end;
                        }
                        _ => break,
                    }
                }
                let mut names = Vec::new();
                variables(inner, &mut names);
                let mut shared = each.into_iter().map(Some).collect::<Vec<_>>();
                // Every variable of the repetition finds all of it: what belongs together stays so.
                for name in names {
                    let each = shared.iter_mut().map(|bound| take(bound, &name)).collect();
                    bindings.insert(name, Bound::Each(each));
                }
            }
        }
    }
    Some((bindings, at))
}

fn take(bound: &mut Option<Bindings>, name: &str) -> Bindings {
    let one = bound.as_mut().and_then(|bound| bound.remove_entry(name));
    one.into_iter().collect()
}

fn variables(parts: &[Part], names: &mut Vec<String>) {
    for part in parts {
        match part {
            Part::Token(_) => {}
            Part::Group(_, inner) | Part::Repeated(inner, _) => variables(inner, names),
            Part::Variable(name, _) => names.push(name.clone()),
        }
    }
}

/// Where a fragment of this kind ends that begins at `at`.
fn fragment(kind: &str, given: &[TokenTree], at: usize) -> Option<usize> {
    let token = given.get(at);
    match kind {
        "ident" => matches!(token?, TokenTree::Ident(_)).then_some(at + 1),
        "literal" => matches!(token?, TokenTree::Literal(_)).then_some(at + 1),
        "tt" => token.map(|_| at + 1),
        // Alone between the brackets of an attribute.
        "meta" => Some(given.len()),
        "vis" if token.is_none_or(|token| token.to_string() != "pub") => Some(at),
        "vis" => {
            let is_group = matches!(given.get(at + 1), Some(TokenTree::Group(_)));
            Some(at + if is_group { 2 } else { 1 })
        }
        "ty" => {
            let ends = |token: &TokenTree| matches!(token.to_string().as_str(), "," | "=" | ";");
            let end = given[at..].iter().position(ends).map_or(given.len(), |length| at + length);
            (end > at).then_some(end)
        }
        other => panic!("a fragment of the kind {other} is not understood"),
    }
}

fn transcribed(body: &[Part], bindings: &[&Bindings]) -> TokenStream {
    let found = |name: &str| bindings.iter().rev().find_map(|bindings| bindings.get(name));
    let mut written = TokenStream::new();
    for part in body {
        match part {
            Part::Token(token) => written.extend([token.clone()]),
            Part::Group(delimiter, inner) => {
                written.extend([TokenTree::Group(Group::new(*delimiter, transcribed(inner, bindings)))]);
            }
            Part::Variable(name, _) => match found(name) {
                Some(Bound::One(tokens)) => written.extend(tokens.clone()),
                Some(Bound::Each(_)) => panic!("${name} is repeated"),
                None => written.extend([TokenTree::Ident(Ident::new(name, Span::call_site()))]),
            },
            Part::Repeated(inner, separator) => {
                let mut names = Vec::new();
                variables(inner, &mut names);
                let repeated: Vec<_> = names
                    .iter()
                    .filter_map(|name| match found(name)? {
                        Bound::Each(each) => Some(each),
                        Bound::One(_) => None,
                    })
                    .collect();
                let times = repeated.iter().map(|each| each.len()).max().unwrap_or(0);
                for at in 0..times {
                    let inside: Vec<_> =
                        bindings.iter().copied().chain(repeated.iter().filter_map(|each| each.get(at))).collect();
                    if let Some(separator) = separator.as_ref().filter(|_| at > 0) {
                        written.extend(separator.parse::<TokenStream>().unwrap());
                    }
                    written.extend(transcribed(inner, &inside));
                }
            }
        }
    }
    written
}
