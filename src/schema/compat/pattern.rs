//! Whether every text with matches of some patterns has a match of another one: both are run side by side
//! over all texts that tell their states apart.

use std::collections::{BTreeMap, VecDeque};

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Input, MatchKind};

/// The answer. A text that shows it stands beside a no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Within {
    Yes,
    No(String),
    Unsure,
}

/// Combinations of states; patterns of schemas have tens, counted repetitions hundreds.
const STATES_MAX: usize = 5_000;
/// Text of one pattern; `(a{100}){100}` is short and large, so its automaton is bounded as well.
const PATTERN_BYTES_MAX: usize = 1_024;
const AUTOMATON_BYTES_MAX: usize = 256 * 1_024;
const CACHE_BYTES_MAX: usize = 2 * 1_024 * 1_024;

struct Automaton {
    dfa: DFA,
    cache: Cache,
}

/// Where an automaton is: still looking, or it has found its match.
type Place = Option<LazyStateID>;

impl Automaton {
    fn new(pattern: &str) -> Option<Self> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE_BYTES_MAX)
            .skip_cache_capacity_check(true)
            // State numbers must stay what they are.
            .minimum_cache_clear_count(Some(0));
        let thompson = regex_automata::nfa::thompson::Config::new().nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
        let dfa = DFA::builder().configure(config).thompson(thompson).build(pattern).ok()?;
        let cache = dfa.create_cache();
        Some(Self { dfa, cache })
    }

    fn start(&mut self) -> Option<Place> {
        let state = self.dfa.start_state_forward(&mut self.cache, &Input::new("")).ok()?;
        Some(self.place(state))
    }

    fn place(&self, state: LazyStateID) -> Place {
        if state.is_match() { None } else { Some(state) }
    }

    fn next(&mut self, place: Place, byte: u8) -> Option<Place> {
        let Some(state) = place else { return Some(None) };
        if state.is_dead() {
            return Some(place);
        }
        let next = self.dfa.next_state(&mut self.cache, state, byte).ok()?;
        if next.is_quit() { None } else { Some(self.place(next)) }
    }

    /// Says whether there is a match if the text ends here.
    fn ends(&mut self, place: Place) -> Option<bool> {
        let Some(state) = place else { return Some(true) };
        if state.is_dead() {
            return Some(false);
        }
        Some(self.dfa.next_eoi_state(&mut self.cache, state).ok()?.is_match())
    }
}

/// Returns what may follow inside a character: 0 at its end; none for what is no UTF-8.
fn utf8(state: u8, byte: u8) -> Option<u8> {
    match (state, byte) {
        (0, 0x00..=0x7f) | (1, 0x80..=0xbf) => Some(0),
        (0, 0xc2..=0xdf) | (2, 0x80..=0xbf) | (4, 0xa0..=0xbf) | (5, 0x80..=0x9f) => Some(1),
        (0, 0xe1..=0xec | 0xee..=0xef) | (3, 0x80..=0xbf) | (6, 0x90..=0xbf) | (7, 0x80..=0x8f) => Some(2),
        (0, 0xf1..=0xf3) => Some(3),
        (0, 0xe0) => Some(4),
        (0, 0xed) => Some(5),
        (0, 0xf0) => Some(6),
        (0, 0xf4) => Some(7),
        _ => None,
    }
}

type State = (Vec<Place>, u8);

/// Says whether every text in which all of `owns` are found has a match of `wanted`.
pub(super) fn within(owns: &[&str], wanted: &str) -> Within {
    search(owns, wanted).unwrap_or(Within::Unsure)
}

fn search(owns: &[&str], wanted: &str) -> Option<Within> {
    let mut automata: Vec<Automaton> =
        owns.iter().chain(std::iter::once(&wanted)).map(|pattern| Automaton::new(pattern)).collect::<Option<_>>()?;
    let bytes = representatives(&automata);
    let start: State = (automata.iter_mut().map(Automaton::start).collect::<Option<_>>()?, 0);
    // Each state, how it was come to first: breadth first gives the shortest text.
    let mut from: BTreeMap<State, Option<(State, u8)>> = BTreeMap::from([(start.clone(), None)]);
    let mut queue = VecDeque::from([start]);
    while let Some((places, character)) = queue.pop_front() {
        let here = (places.clone(), character);
        let (mine, theirs) = places.split_at(owns.len());
        if theirs[0].is_none() {
            continue; // found, and so it stays
        }
        if character == 0 {
            let mut ends = Vec::with_capacity(places.len());
            for (automaton, place) in automata.iter_mut().zip(&places) {
                ends.push(automaton.ends(*place)?);
            }
            if ends[..owns.len()].iter().all(|found| *found) && !ends[owns.len()] {
                return Some(Within::No(text_to(&from, &here)));
            }
        }
        if mine.iter().any(|place| place.is_some_and(|state| state.is_dead())) {
            continue; // never to be found
        }
        for byte in &bytes {
            let Some(next_character) = utf8(character, *byte) else { continue };
            let mut next = Vec::with_capacity(places.len());
            for (automaton, place) in automata.iter_mut().zip(&places) {
                next.push(automaton.next(*place, *byte)?);
            }
            let next = (next, next_character);
            if from.len() > STATES_MAX {
                return None;
            }
            if let std::collections::btree_map::Entry::Vacant(vacant) = from.entry(next.clone()) {
                vacant.insert(Some((here.clone(), *byte)));
                queue.push_back(next);
            }
        }
    }
    Some(Within::Yes)
}

fn text_to(from: &BTreeMap<State, Option<(State, u8)>>, to: &State) -> String {
    let (mut bytes, mut at) = (Vec::new(), to);
    while let Some(Some((before, byte))) = from.get(at) {
        bytes.push(*byte);
        at = before;
    }
    bytes.reverse();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns one byte of each class that no automaton tells apart, readable ones first.
fn representatives(automata: &[Automaton]) -> Vec<u8> {
    let readable = (b'a'..=b'z').chain(b'0'..=b'9').chain(b'A'..=b'Z').chain(b' '..=b'~');
    let mut classes: BTreeMap<Vec<usize>, u8> = BTreeMap::new();
    let mut order = Vec::new();
    for byte in readable.chain(0..=255) {
        let mut class: Vec<usize> =
            automata.iter().map(|automaton| usize::from(automaton.dfa.byte_classes().get(byte))).collect();
        class.extend((0..8).map(|state| utf8(state, byte).map_or(8, usize::from)));
        if let std::collections::btree_map::Entry::Vacant(vacant) = classes.entry(class) {
            vacant.insert(byte);
            order.push(byte);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_side_by_side() {
        let rows: &[(&str, &[&str], &str, Option<bool>)] = &[
            ("found in every text", &[], "a*", Some(true)),
            ("not in every text", &[], "a+", Some(false)),
            ("anchored within open", &["^abc$"], "b", Some(true)),
            ("a choice grows", &["^(A|B)$"], "^(A|B|C)$", Some(true)),
            ("a choice shrinks", &["^(A|B|C)$"], "^(A|B)$", Some(false)),
            ("longer digits", &["^[0-9]{2}$"], "^[0-9]+$", Some(true)),
            ("the other way", &["^[0-9]+$"], "^[0-9]{2}$", Some(false)),
            ("two together", &["^a", "b$"], "^a.*b$", Some(false)), // a line break between them
            ("two together, all characters", &["^a", "b$"], "(?s)^a.*b$", Some(true)),
            ("characters of several bytes", &["^[ä-ü]$"], "^.$", Some(true)),
            ("no pattern", &["("], "a", None),
        ];
        for (why, owns, wanted, expected) in rows {
            let answer = within(owns, wanted);
            match &answer {
                Within::Yes => assert_eq!(*expected, Some(true), "{why}"),
                Within::No(text) => {
                    assert_eq!(*expected, Some(false), "{why}: {text:?}");
                    let found = |pattern: &str| regex::Regex::new(pattern).unwrap().is_match(text);
                    assert!(owns.iter().all(|own| found(own)) && !found(wanted), "{why}: {text:?}");
                }
                Within::Unsure => assert_eq!(*expected, None, "{why}"),
            }
        }
    }
}
