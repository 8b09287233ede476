//! The promises of a run of steps inside steps, numbered as in `docs/reliability.md`: what was seen from
//! outside is held against places in the drawn tree. No code of the product is shared.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::Seen;
use super::spec::{Check, Undo};
use super::tree::{Kind, POLL_EVERY_MS, Placed, Tree, before};

/// What is known of one call while the story is gone through.
#[derive(Default, Clone)]
struct Known {
    begun: bool,
    /// The last word recorded: `done refused unknown`.
    word: Option<String>,
    undone: Option<String>,
    in_flight: bool,
    /// It may have happened.
    doubt: bool,
    undoing: bool,
    keys: BTreeSet<String>,
    undo_keys: BTreeSet<String>,
    intents: u32,
    sent: u32,
    answered: u32,
}

/// What is known of one poll, or of one list in pages.
#[derive(Default)]
struct Rounds {
    /// When it was last answered with success, and how often the service had said so; none while it is asked.
    answered: Option<(u64, u32)>,
}

/// Goes through a story and says what breaks a promise.
pub fn violations(tree: &Tree, seen: &[(u64, Seen)], applied: impl Fn(&str) -> bool) -> Vec<String> {
    let placed = tree.calls();
    let mut known: BTreeMap<&str, Known> = placed.keys().map(|path| (path.as_str(), Known::default())).collect();
    let in_rounds = tree.rounds();
    let mut rounds: BTreeMap<&str, Rounds> = in_rounds.keys().map(|path| (path.as_str(), Rounds::default())).collect();
    let mut cut_short = false;
    let mut wrong = Vec::new();
    let (mut undoing, mut settling, mut pivot_done, mut pivot_doubt) = (false, false, false, false);
    let (mut state, mut resolved, mut skipped, mut operated) = ("", false, false, false);
    // Child runs that run; and, once what they belong to settles, whether they were asked to end.
    let mut children: BTreeMap<&String, Option<bool>> = BTreeMap::new();
    let (mut crashes, mut retries, mut next_number, mut emitted) = (0, 0, 0, BTreeSet::new());
    for (at, one) in seen {
        match one {
            Seen::Recorded { fact, path, word } => {
                if matches!(state, "completed" | "compensated") {
                    wrong.push(format!("2 {fact} is recorded behind the end"));
                }
                undoing |= fact == "undo_began";
                settling |= fact == "settling_began";
                cut_short |= matches!(fact.as_str(), "settling_began" | "scope_settling");
                let Some(path) = path.as_deref() else { continue };
                if let Some(Rounds { answered: Some((_, times)) }) = rounds.get(path)
                    && (fact.as_str(), word.as_deref()) == ("step_ended", Some("done"))
                {
                    // What settles is cut short, which is no failure of its own.
                    let wanted = in_rounds[path].kind.rounds();
                    if *times < wanted && !cut_short && !operated {
                        wrong.push(format!("27 {path} is done with answer {times} of {wanted}"));
                    }
                }
                let Some(call) = known.get_mut(path) else { continue };
                let placed = &placed[path];
                match fact.as_str() {
                    "step_started" => {
                        call.begun = true;
                        call.intents += 1;
                        pivot_doubt |= placed.call.pivot;
                    }
                    "attempt_started" | "check_started" => call.intents += 1,
                    "undo_started" => {
                        call.undoing = true;
                        call.intents += 1;
                    }
                    "attempt_interrupted" if !call.undoing => call.doubt = true,
                    "step_ended" => {
                        let ruled_out = placed.call.proof || placed.call.check == Check::Conclusive;
                        if word.as_deref() == Some("refused") && call.doubt && !ruled_out && !operated {
                            wrong.push(format!("5 {path} may have happened, and is called refused"));
                        }
                        if placed.call.pivot {
                            pivot_done |= word.as_deref() == Some("done");
                            pivot_doubt = word.as_deref() == Some("unknown");
                        }
                        call.word.clone_from(word);
                    }
                    "undo_ended" => {
                        skipped |= word.as_deref() == Some("skipped");
                        call.undone.clone_from(word);
                    }
                    _ => {}
                }
            }
            Seen::Sent { path, direction, key, forward_key, item, .. } => {
                if state == "paused" {
                    wrong.push(format!("22 {path} leaves while the run is paused"));
                }
                if matches!(state, "completed" | "compensated") {
                    wrong.push(format!("2 {path} is called behind the end"));
                }
                if let Some(Some((since, times))) = rounds.get_mut(path.as_str()).map(|known| known.answered.take()) {
                    let wanted = in_rounds[path].kind.rounds();
                    let pause = if matches!(in_rounds[path].kind, Kind::Poll(_)) { POLL_EVERY_MS } else { 0 };
                    if at - since < pause {
                        wrong.push(format!("27 {path} asks again after {} ms of {pause}", at - since));
                    }
                    if times >= wanted {
                        wrong.push(format!("27 {path} asks on after answer {times} of {wanted}"));
                    }
                    if settling {
                        wrong.push(format!("27 {path} asks on while the run settles"));
                    }
                }
                let Some(here) = placed.get(path) else { continue };
                // The items are 1, 2, 3 in every list.
                let own = path.rsplit_once('[').and_then(|(_, rest)| rest.split(']').next()?.parse::<u32>().ok());
                let own = own.map(|index| (index + 1).to_string());
                if *direction != "check" && *item != own {
                    wrong.push(format!("26 {path} is called ({direction}) with the item {item:?} instead of {own:?}"));
                }
                match *direction {
                    "forward" => {
                        if undoing {
                            wrong.push(format!("6 {path} is sent while the run undoes"));
                        }
                        if settling && !known[path.as_str()].begun {
                            wrong.push(format!("24 {path} begins while the run settles"));
                        }
                        if pivot_doubt && !here.call.pivot {
                            wrong.push(format!("24 {path} goes on while the pivot is in doubt"));
                        }
                        // All that comes before it has ended.
                        for (other, call) in &known {
                            if call.in_flight && before(&placed[*other].parts, &here.parts) {
                                wrong.push(format!("7 {path} is sent while {other} before it is in flight"));
                            }
                        }
                    }
                    "compensate" => {
                        if pivot_done || pivot_doubt {
                            wrong.push(format!("24 {path} is undone behind or beside the pivot"));
                        }
                        if forward_key.is_none() {
                            wrong.push(format!("3 the undo of {path} does not name the key it undoes"));
                        }
                        for (other, call) in &known {
                            if stands(call, &placed[*other]) && before(&here.parts, &placed[*other].parts) {
                                wrong.push(format!("7 {path} is undone while {other} behind it stands"));
                            }
                        }
                        let call = &known[path.as_str()];
                        if call.in_flight {
                            wrong.push(format!("7 {path} is undone while an attempt of it is in flight"));
                        }
                        if !matches!(call.word.as_deref(), Some("done" | "unknown")) {
                            wrong.push(format!("3 {path} is undone, but it is {:?}", call.word));
                        }
                    }
                    _ => {}
                }
                let call = known.get_mut(path.as_str()).expect("every call is known");
                call.sent += 1;
                if call.sent > call.intents {
                    wrong.push(format!("9 {path} is sent without a record of the intent"));
                }
                match *direction {
                    "forward" => {
                        call.in_flight = true;
                        call.keys.insert(key.clone());
                    }
                    "compensate" => {
                        call.undo_keys.insert(key.clone());
                    }
                    _ => {}
                }
            }
            Seen::Answered { path, direction: "forward", effect, times } => {
                if let (Some(known), "done") = (rounds.get_mut(path.as_str()), *effect) {
                    known.answered = Some((*at, *times));
                }
                if let Some(call) = known.get_mut(path.as_str()) {
                    call.in_flight = false;
                    call.doubt |= *effect == "maybe";
                    call.answered += 1;
                }
            }
            Seen::Crashed => {
                crashes += 1;
                known.values_mut().for_each(|call| call.in_flight = false);
                // An answer may be lost with its record, and is asked for again at once.
                rounds.values_mut().for_each(|known| known.answered = None);
            }
            Seen::State { state: now } => {
                state = now;
                if now == "settling" {
                    for asked in children.values_mut() {
                        asked.get_or_insert(false);
                    }
                }
            }
            Seen::Child { path, undo: false } => drop(children.entry(path).or_insert(None)),
            Seen::ChildCancelled { path } => drop(children.insert(path, Some(true))),
            Seen::ChildEnded { path } => {
                if children.remove(path) == Some(Some(false)) {
                    wrong
                        .push(format!("25 {path} runs on while what it belongs to settles, and nobody asks it to end"));
                }
            }
            Seen::Operated { command } => {
                operated = true;
                resolved |= command == "resolve";
                retries += u32::from(command == "retry");
            }
            Seen::Emitted { number, id, event } => {
                if *number != next_number {
                    wrong.push(format!("13 event {number} where {next_number} comes"));
                }
                next_number += 1;
                // A command that got no reply is sent again as the same event.
                if !emitted.insert(id) && event != "sim.wanted.v1" {
                    wrong.push(format!("13 {id} is emitted twice"));
                }
            }
            Seen::Answered { .. }
            | Seen::Applied { .. }
            | Seen::Undone { .. }
            | Seen::Restarted
            | Seen::Child { .. } => {}
        }
    }
    match state {
        "completed" | "compensated" | "parked" => {}
        other => wrong.push(format!("1 it ends as {other}")),
    }
    let mut keys = BTreeMap::new();
    for (path, call) in &known {
        let placed = &placed[*path];
        if call.keys.len() > 1 || call.undo_keys.len() > 1 {
            wrong.push(format!("8 {path} has several keys"));
        }
        for key in call.keys.iter().chain(&call.undo_keys) {
            if let Some(other) = keys.insert(key.clone(), *path) {
                wrong.push(format!("8 {path} and {other} share a key"));
            }
        }
        // An answer whose record a crash lost is asked for again; behind the pivot it is tried forever.
        if placed.call.undo != Undo::Unstated && call.answered > tree.attempts * (retries + 1) + crashes {
            wrong.push(format!("11 {path} was attempted {} times", call.answered));
        }
        // A person's word may stand against the service's.
        if resolved {
            continue;
        }
        let undoable = placed.call.undo == Undo::Call && !placed.call.pivot;
        let left = skipped && call.undone.as_deref() == Some("skipped");
        if state == "compensated" && applied(path) && undoable && !left {
            wrong.push(format!("4a {path} stands in a compensated run"));
        }
        if state == "completed" {
            match (call.word.as_deref(), call.undone.as_deref()) {
                (Some("done"), None) if !applied(path) => wrong.push(format!("4b {path} is done, and not there")),
                (Some("unknown"), None) if !matches!(placed.call.undo, Undo::None | Undo::Unstated) => {
                    wrong.push(format!("4b {path} is left unknown"));
                }
                (_, Some("undone")) if undoable && applied(path) => {
                    wrong.push(format!("4b {path} is undone, and there"));
                }
                _ => {}
            }
        }
    }
    wrong
}

/// True while it is to be undone before what comes before it.
fn stands(call: &Known, placed: &Placed) -> bool {
    call.begun
        && call.undone.is_none()
        && matches!(call.word.as_deref(), Some("done" | "unknown"))
        && matches!(placed.call.undo, Undo::Call | Undo::Emit)
}
