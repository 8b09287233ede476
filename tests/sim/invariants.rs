//! The promises of a run, one function each, numbered as in `docs/reliability.md`. They read what was
//! seen from outside and the spec in the test's own words; they share no code with the product.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::Seen;
use super::services::Services;
use super::spec::{Call, Check, Kind, Spec, Undo};

/// Everything a checker may look at.
pub struct Evidence<'a> {
    pub spec: &'a Spec,
    pub seen: &'a [(u64, Seen)],
    pub services: &'a Services,
}

type Checker = fn(&Evidence) -> Result<(), String>;

/// The checkers by number.
pub const ALL: &[(&str, Checker)] = &[
    ("1 comes to rest", rest),
    ("2 final is final", final_is_final),
    ("3 undo only what may have happened", undo_only_started),
    ("4a compensated means undone", compensated_is_clean),
    ("4b completed means done", completed_is_done),
    ("5 maybe sticks", maybe_sticks),
    ("6 no forward call after undoing began", no_forward_in_undo),
    ("7 undo in reverse, never beside an attempt", undo_in_reverse),
    ("8 keys are stable and distinct", keys),
    ("9 recorded before sent", recorded_before_sent),
    ("11 attempts are bounded", attempts),
    ("12 waits are not short", waits),
    ("13 events once, in order", events),
    ("22 pause holds everything", pause),
    ("24 the pivot holds", pivot),
    ("24 settling starts nothing", settling),
];

/// Runs every checker and returns what they found.
pub fn violations(evidence: &Evidence) -> Vec<String> {
    ALL.iter().filter_map(|(name, check)| check(evidence).err().map(|why| format!("{name}: {why}"))).collect()
}

fn last_state<'a>(evidence: &Evidence<'a>) -> &'a str {
    evidence
        .seen
        .iter()
        .rev()
        .find_map(|(_, seen)| match seen {
            Seen::State { state } => Some(state.as_str()),
            _ => None,
        })
        .unwrap_or("")
}

fn call<'a>(evidence: &Evidence<'a>, path: &str) -> Option<&'a Call> {
    evidence.spec.flat().into_iter().find(|(at, _)| at == path).and_then(|(_, step)| match &step.kind {
        Kind::Call(call) => Some(call),
        _ => None,
    })
}

/// Outcome words by path, the last one that was recorded.
fn outcomes(evidence: &Evidence) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for (_, seen) in evidence.seen {
        if let Seen::Recorded { fact, path: Some(path), word: Some(word) } = seen
            && fact == "step_ended"
        {
            last.insert(path.clone(), word.clone());
        }
    }
    last
}

fn recorded(evidence: &Evidence, wanted: &str, at: &str) -> Option<String> {
    evidence.seen.iter().rev().find_map(|(_, seen)| match seen {
        Seen::Recorded { fact, path: Some(path), word } if fact == wanted && path == at => {
            Some(word.clone().unwrap_or_default())
        }
        _ => None,
    })
}

fn operated(evidence: &Evidence) -> bool {
    evidence.seen.iter().any(|(_, seen)| matches!(seen, Seen::Operated { .. }))
}

fn rest(evidence: &Evidence) -> Result<(), String> {
    match last_state(evidence) {
        "completed" | "compensated" | "parked" => Ok(()),
        other => Err(format!("it ended as {other}")),
    }
}

fn final_is_final(evidence: &Evidence) -> Result<(), String> {
    let mut ended = false;
    for (_, seen) in evidence.seen {
        match seen {
            Seen::State { state } if state == "completed" || state == "compensated" => ended = true,
            Seen::Sent { path, .. } if ended => return Err(format!("{path} was called after the end")),
            Seen::Recorded { fact, .. } if ended => return Err(format!("{fact} was recorded after the end")),
            _ => {}
        }
    }
    Ok(())
}

fn undo_only_started(evidence: &Evidence) -> Result<(), String> {
    let mut words: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, seen) in evidence.seen {
        match seen {
            Seen::Recorded { fact, path: Some(path), word: Some(word) } if fact == "step_ended" => {
                words.insert(path, word);
            }
            Seen::Sent { path, direction: "compensate", forward_key, .. } => {
                match words.get(path.as_str()) {
                    Some(&("done" | "unknown")) => {}
                    other => return Err(format!("{path} is undone, but it is {other:?}")),
                }
                if forward_key.is_none() {
                    return Err(format!("the undo of {path} does not name the key it undoes"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn compensated_is_clean(evidence: &Evidence) -> Result<(), String> {
    if last_state(evidence) != "compensated" {
        return Ok(());
    }
    let outcomes = outcomes(evidence);
    for (path, step) in evidence.spec.flat() {
        let Kind::Call(call) = &step.kind else { continue };
        let skipped = recorded(evidence, "undo_ended", &path).as_deref() == Some("skipped");
        // An operator may have said that it was not done, which is then his word against the service's.
        let resolved =
            evidence.seen.iter().any(|(_, seen)| matches!(seen, Seen::Operated { command } if command == "resolve"));
        match call.undo {
            Undo::Call if evidence.services.applied(&path) && !skipped && !resolved => {
                return Err(format!("{path} stands"));
            }
            Undo::Emit => {
                let wanted = matches!(outcomes.get(&path).map(String::as_str), Some("done" | "unknown"));
                let emitted = evidence
                    .seen
                    .iter()
                    .any(|(_, seen)| matches!(seen, Seen::Emitted { event, .. } if event == "sim.undone.v1"));
                if wanted && !emitted && !skipped {
                    return Err(format!("{path} was not taken back by its event"));
                }
            }
            Undo::Call | Undo::None | Undo::Unstated => {}
        }
    }
    Ok(())
}

fn completed_is_done(evidence: &Evidence) -> Result<(), String> {
    if last_state(evidence) != "completed" {
        return Ok(());
    }
    let outcomes = outcomes(evidence);
    for (path, step) in evidence.spec.route() {
        let Kind::Call(call) = &step.kind else { continue };
        let undone = recorded(evidence, "undo_ended", &path);
        match outcomes.get(&path).map(String::as_str) {
            Some("done") => {
                if undone.is_none() && !evidence.services.applied(&path) && !operated(evidence) {
                    return Err(format!("{path} is done, but the service does not have it"));
                }
            }
            Some("unknown") if call.undo == Undo::None || undone.is_some() => {}
            // Behind the pivot nothing is undone: what is optional there may stay unknown.
            Some("unknown") if call.optional && call.undo == Undo::Unstated => {}
            Some("unknown") => return Err(format!("{path} is unknown")),
            Some("refused") if call.optional => {}
            Some("refused") if operated(evidence) => {}
            None if operated(evidence) => {}
            other => return Err(format!("{path} is {other:?}")),
        }
    }
    Ok(())
}

fn maybe_sticks(evidence: &Evidence) -> Result<(), String> {
    let mut doubt: BTreeSet<&str> = BTreeSet::new();
    for (_, seen) in evidence.seen {
        match seen {
            // An undo's attempt may be cut off as well; it says nothing about the action.
            Seen::Recorded { fact, path: Some(path), .. }
                if fact == "attempt_interrupted" && recorded(evidence, "undo_started", path).is_none() =>
            {
                doubt.insert(path);
            }
            Seen::Answered { path, direction: "forward", effect: "maybe", .. } => {
                doubt.insert(path);
            }
            Seen::Recorded { fact, path: Some(path), word: Some(word) }
                if fact == "step_ended" && word == "refused" =>
            {
                let proof = call(evidence, path).is_some_and(|call| call.proof || call.check == Check::Conclusive);
                if doubt.contains(path.as_str()) && !proof && !operated(evidence) {
                    return Err(format!("{path} may have happened, and is called refused"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn no_forward_in_undo(evidence: &Evidence) -> Result<(), String> {
    let mut undoing = false;
    for (_, seen) in evidence.seen {
        match seen {
            Seen::Recorded { fact, .. } if fact == "undo_began" => undoing = true,
            Seen::Sent { path, direction: "forward", .. } if undoing => return Err(format!("{path} was sent")),
            _ => {}
        }
    }
    Ok(())
}

fn undo_in_reverse(evidence: &Evidence) -> Result<(), String> {
    let mut begun: Vec<&str> = Vec::new();
    let mut undone: Vec<usize> = Vec::new();
    let mut undoing = false;
    let mut in_flight: BTreeSet<&str> = BTreeSet::new();
    for (_, seen) in evidence.seen {
        match seen {
            Seen::Recorded { fact, path: Some(path), .. }
                if fact == "step_started" && !begun.contains(&path.as_str()) =>
            {
                begun.push(path);
            }
            Seen::Recorded { fact, .. } if fact == "undo_began" => undoing = true,
            Seen::Crashed => in_flight.clear(),
            Seen::Sent { path, direction: "forward", .. } => {
                in_flight.insert(path);
            }
            Seen::Answered { path, direction: "forward", .. } => {
                in_flight.remove(path.as_str());
            }
            Seen::Sent { path, direction: "compensate", .. } => {
                if in_flight.contains(path.as_str()) {
                    return Err(format!("{path} is undone while an attempt of it is in flight"));
                }
                if undoing {
                    let Some(at) = begun.iter().position(|begun| begun == path) else { continue };
                    if undone.last().is_some_and(|last| at > *last) {
                        return Err(format!("{path} is undone after a step that ran before it"));
                    }
                    undone.push(at);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn keys(evidence: &Evidence) -> Result<(), String> {
    let mut by_effect: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (_, seen) in evidence.seen {
        if let Seen::Sent { path, direction, key, .. } = seen {
            if *direction == "check" {
                continue; // every asking has its own
            }
            let known = by_effect.entry((path, direction)).or_insert(key);
            if *known != key {
                return Err(format!("{path} {direction} was sent with {known} and with {key}"));
            }
        }
    }
    let distinct: BTreeSet<&&str> = by_effect.values().collect();
    if distinct.len() == by_effect.len() { Ok(()) } else { Err("two effects share a key".to_owned()) }
}

fn recorded_before_sent(evidence: &Evidence) -> Result<(), String> {
    let mut intents: BTreeMap<&str, u32> = BTreeMap::new();
    let mut sent: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, seen) in evidence.seen {
        match seen {
            Seen::Recorded { fact, path: Some(path), .. }
                if matches!(fact.as_str(), "step_started" | "attempt_started" | "check_started" | "undo_started") =>
            {
                *intents.entry(path).or_default() += 1;
            }
            Seen::Sent { path, .. } => {
                let count = sent.entry(path).or_default();
                *count += 1;
                if *count > intents.get(path.as_str()).copied().unwrap_or_default() {
                    return Err(format!("{path} was sent without a record of the intent"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn attempts(evidence: &Evidence) -> Result<(), String> {
    let pivot_at =
        evidence.spec.route().iter().position(|(_, step)| matches!(&step.kind, Kind::Call(call) if call.pivot));
    let retried = evidence
        .seen
        .iter()
        .filter(|(_, seen)| matches!(seen, Seen::Operated { command } if command == "retry"))
        .count();
    for (at, (path, _)) in evidence.spec.route().iter().enumerate() {
        if pivot_at.is_some_and(|pivot| at > pivot) {
            continue; // behind the pivot: forever
        }
        let ended = evidence
            .seen
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::Answered { path: p, direction: "forward", .. } if p == path))
            .count();
        let crashes = evidence.seen.iter().filter(|(_, seen)| matches!(seen, Seen::Crashed)).count();
        // Three attempts in all; an answer whose record a crash lost is asked for again.
        if ended > 3 * (retried + 1) + crashes {
            return Err(format!("{path} was attempted {ended} times"));
        }
    }
    Ok(())
}

fn waits(evidence: &Evidence) -> Result<(), String> {
    for (path, step) in evidence.spec.flat() {
        let Kind::Wait(wanted) = step.kind else { continue };
        let mut began = None;
        for (at, seen) in evidence.seen {
            match seen {
                Seen::Recorded { fact, path: Some(p), .. } if *p == path && fact == "wait_started" => began = Some(*at),
                Seen::Recorded { fact, path: Some(p), .. } if *p == path && fact == "step_ended" => {
                    let waited = began.map(|began| at - began);
                    if waited.is_none_or(|waited| waited < wanted) {
                        return Err(format!("{path} waited {waited:?} ms instead of {wanted}"));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn events(evidence: &Evidence) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    let mut next = 0;
    for (_, seen) in evidence.seen {
        if let Seen::Emitted { id, number, event } = seen {
            if *number != next {
                return Err(format!("{event} has number {number} where {next} comes"));
            }
            next += 1;
            if !ids.insert(id) {
                return Err(format!("{event} was emitted twice as {id}"));
            }
        }
    }
    Ok(())
}

fn pause(evidence: &Evidence) -> Result<(), String> {
    let mut paused = false;
    for (_, seen) in evidence.seen {
        match seen {
            Seen::State { state } => paused = state == "paused",
            Seen::Sent { path, .. } if paused => return Err(format!("{path} left while the run was paused")),
            _ => {}
        }
    }
    Ok(())
}

fn settling(evidence: &Evidence) -> Result<(), String> {
    let mut settling = false;
    let mut in_flight: BTreeSet<&str> = BTreeSet::new();
    for (_, seen) in evidence.seen {
        match seen {
            Seen::Recorded { fact, .. } if fact == "settling_began" => settling = true,
            Seen::Recorded { fact, .. } if fact == "undo_began" => {
                settling = false;
                if let Some(path) = in_flight.first() {
                    return Err(format!("undoing began while an attempt of {path} was in flight"));
                }
            }
            Seen::Sent { path, direction: "forward", .. } if settling => {
                return Err(format!("{path} was sent while settling"));
            }
            Seen::Sent { path, direction: "forward", .. } => {
                in_flight.insert(path);
            }
            Seen::Answered { path, direction: "forward", .. } => {
                in_flight.remove(path.as_str());
            }
            Seen::Crashed => in_flight.clear(),
            _ => {}
        }
    }
    Ok(())
}

fn pivot(evidence: &Evidence) -> Result<(), String> {
    let is_pivot = |path: &str| call(evidence, path).is_some_and(|call| call.pivot);
    let (mut done, mut doubtful) = (false, false);
    for (_, seen) in evidence.seen {
        match seen {
            Seen::Recorded { fact, path: Some(path), .. } if is_pivot(path) && fact == "step_started" => {
                doubtful = true
            }
            Seen::Recorded { fact, path: Some(path), word: Some(word) } if is_pivot(path) && fact == "step_ended" => {
                done |= word == "done";
                doubtful = word == "unknown";
            }
            Seen::Sent { path, direction: "compensate", .. } if done || doubtful => {
                return Err(format!("{path} is undone behind or beside the pivot"));
            }
            Seen::Sent { path, direction: "forward", .. } if doubtful && !is_pivot(path) => {
                return Err(format!("{path} goes on while the pivot is in doubt"));
            }
            _ => {}
        }
    }
    Ok(())
}
