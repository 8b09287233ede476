//! What a simulated saga looks like, in the test's own words, and its YAML. The checkers read this and
//! never the product's model.

use std::fmt::Write;

#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub steps: Vec<Step>,
    /// Milliseconds.
    pub timeout: Option<u64>,
    pub lock: bool,
    pub finally: bool,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub id: String,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Call(Call),
    /// `stated`: says `compensate: none`, as it must before the pivot and before the end.
    Emit {
        stated: bool,
    },
    Set,
    /// Milliseconds.
    Wait(u64),
    /// Arms and which one is taken; none matches when it is beyond them.
    Switch {
        arms: Vec<Vec<Step>>,
        taken: usize,
    },
    /// Skipped by its `if`.
    Skipped,
    Fail,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    pub undo: Undo,
    pub check: Check,
    pub pivot: bool,
    pub optional: bool,
    pub park_unknown: bool,
    /// A 409 proves that nothing ever happened.
    pub proof: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Undo {
    #[default]
    Call,
    None,
    Emit,
    /// Nothing stated: behind the pivot, or the last call.
    Unstated,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    #[default]
    No,
    Ask,
    Conclusive,
}

impl Spec {
    pub fn of(steps: Vec<Step>) -> Self {
        Self { steps, finally: true, ..Self::default() }
    }

    /// Every step with its path, nested ones too, in file order.
    pub fn flat(&self) -> Vec<(String, &Step)> {
        fn walk<'a>(prefix: &str, steps: &'a [Step], out: &mut Vec<(String, &'a Step)>) {
            for step in steps {
                let path = format!("{prefix}{}", step.id);
                out.push((path.clone(), step));
                if let Kind::Switch { arms, .. } = &step.kind {
                    for arm in arms {
                        walk(&format!("{path}/"), arm, out);
                    }
                }
            }
        }
        let mut out = Vec::new();
        walk("", &self.steps, &mut out);
        out
    }

    /// Paths of the steps that a run without a fault goes through, in order.
    pub fn route(&self) -> Vec<(String, &Step)> {
        fn walk<'a>(prefix: &str, steps: &'a [Step], out: &mut Vec<(String, &'a Step)>) {
            for step in steps {
                let path = format!("{prefix}{}", step.id);
                out.push((path.clone(), step));
                if let Kind::Switch { arms, taken } = &step.kind
                    && let Some(arm) = arms.get(*taken)
                {
                    walk(&format!("{path}/"), arm, out);
                }
            }
        }
        let mut out = Vec::new();
        walk("", &self.steps, &mut out);
        out
    }

    pub fn yaml(&self) -> String {
        let mut text = String::from(
            "saga: sim\nversion: 1\nservices:\n  svc: { url: \"http://127.0.0.1:1\" }\n\
             defaults:\n  timeout: 1s\n  retry: { attempts: 3, delay: 100ms, factor: 2, max_delay: 1s, jitter: none }\n  \
             compensate: { retry: { attempts: 4, delay: 100ms, factor: 2, max_delay: 1s, jitter: none } }\n",
        );
        if let Some(timeout) = self.timeout {
            let _ = writeln!(text, "timeout: {timeout}ms");
        }
        if self.lock {
            text.push_str("lock: order/${ $input.order }\n");
        }
        text.push_str("steps:\n");
        for step in &self.steps {
            write_step(&mut text, step, 2);
        }
        if self.finally {
            text.push_str(
                "finally:\n  completed: { emit: sim.completed.v1, data: { order: \"${ $input.order }\" } }\n  \
                 compensated: { emit: sim.compensated.v1, data: { reason: \"${ $error.title }\" } }\n  \
                 parked: { emit: sim.parked.v1, data: { step: \"${ $parked.step }\" } }\n",
            );
        }
        text
    }
}

fn write_step(text: &mut String, step: &Step, indent: usize) {
    let pad = " ".repeat(indent);
    let id = &step.id;
    let _ = writeln!(text, "{pad}- id: {id}");
    let pad = " ".repeat(indent + 2);
    match &step.kind {
        Kind::Call(call) => {
            let _ = writeln!(text, "{pad}call: svc");
            let _ = writeln!(
                text,
                "{pad}with: {{ method: POST, path: /{id}, body: {{ order: \"${{ $input.order }}\", key: \"${{ $step.key }}\" }} }}"
            );
            let _ = writeln!(text, "{pad}output: ${{ $result.body }}");
            if call.proof {
                let _ = writeln!(text, "{pad}classify: {{ proof: \"${{ $result.status == 409 }}\" }}");
            }
            let check = match call.check {
                Check::No => String::new(),
                Check::Ask | Check::Conclusive => format!(
                    "check: {{ with: {{ method: GET, path: /{id} }}, happened: \"${{ $result.body.applied }}\", conclusive: {}, retry: {{ attempts: 2, delay: 50ms, jitter: none }} }}",
                    call.check == Check::Conclusive
                ),
            };
            let otherwise = if call.park_unknown { "else: park" } else { "" };
            let parts: Vec<&str> = [check.as_str(), otherwise].into_iter().filter(|part| !part.is_empty()).collect();
            if !parts.is_empty() {
                let _ = writeln!(text, "{pad}on_unknown: {{ {} }}", parts.join(", "));
            }
            if call.pivot {
                let _ = writeln!(text, "{pad}pivot: true");
            } else {
                match call.undo {
                    Undo::Call => {
                        let _ = writeln!(
                            text,
                            "{pad}compensate: {{ with: {{ method: DELETE, path: \"/{id}/${{ $forward.key }}\" }} }}"
                        );
                    }
                    Undo::None => {
                        let _ = writeln!(text, "{pad}compensate: none");
                    }
                    Undo::Emit => {
                        let _ = writeln!(
                            text,
                            "{pad}compensate: {{ emit: sim.undone.v1, data: {{ key: \"${{ $forward.key }}\" }} }}"
                        );
                    }
                    Undo::Unstated => {}
                }
            }
            if call.optional {
                let _ = writeln!(text, "{pad}optional: true");
            }
        }
        Kind::Emit { stated } => {
            let _ = writeln!(text, "{pad}emit: sim.happened.v1\n{pad}data: {{ order: \"${{ $input.order }}\" }}");
            if *stated {
                let _ = writeln!(text, "{pad}compensate: none");
            }
        }
        Kind::Set => {
            let _ = writeln!(text, "{pad}set: {{ doubled: \"${{ $input.amount * 2 }}\" }}");
        }
        Kind::Wait(ms) => {
            let _ = writeln!(text, "{pad}wait: {ms}ms");
        }
        Kind::Skipped => {
            let _ = writeln!(text, "{pad}if: ${{ $input.amount > 1000000 }}\n{pad}set: 1");
        }
        Kind::Fail => {
            let _ = writeln!(text, "{pad}fail: {{ type: sim.failed, title: \"made to fail\" }}");
        }
        Kind::Switch { arms, taken } => {
            let _ = writeln!(text, "{pad}switch:");
            for (at, arm) in arms.iter().enumerate() {
                // The input's amount is 7: exactly the taken arm matches.
                let amount = if at == *taken { 7 } else { 100 + at };
                let _ = writeln!(text, "{pad}- when: ${{ $input.amount == {amount} }}\n{pad}  do:");
                for step in arm {
                    write_step(text, step, indent + 6);
                }
            }
        }
    }
}

/// A call with an undo.
pub fn call(id: &str) -> Step {
    Step { id: id.to_owned(), kind: Kind::Call(Call::default()) }
}

/// A call as described.
pub fn call_with(id: &str, change: impl FnOnce(&mut Call)) -> Step {
    let mut call = Call::default();
    change(&mut call);
    Step { id: id.to_owned(), kind: Kind::Call(call) }
}

pub fn step(id: &str, kind: Kind) -> Step {
    Step { id: id.to_owned(), kind }
}
