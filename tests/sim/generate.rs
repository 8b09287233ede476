//! Draws sagas.

use super::rng::Rng;
use super::spec::{Call, Check, Kind, Spec, Step, Undo};

struct Draw<'a> {
    rng: &'a mut Rng,
    count: usize,
}

/// Draws a saga of up to nine steps on its route.
pub fn spec(rng: &mut Rng) -> Spec {
    let mut draw = Draw { rng, count: 0 };
    let before = 1 + draw.rng.below(5);
    let mut steps = Vec::new();
    for _ in 0..before {
        steps.push(draw.step(0));
    }
    match draw.rng.below(4) {
        // A pivot and what lies behind it.
        0 | 1 => {
            let mut pivot = Call { pivot: true, ..Call::default() };
            pivot.check = draw.check();
            let id = draw.id();
            steps.push(Step { id, kind: Kind::Call(pivot) });
            for _ in 0..draw.rng.below(3) {
                let kind = match draw.rng.below(4) {
                    0 => Kind::Emit { stated: false },
                    1 => Kind::Wait(10 + draw.rng.below(2_000)),
                    _ => Kind::Call(Call {
                        undo: Undo::Unstated,
                        optional: draw.rng.chance(200),
                        check: draw.check(),
                        ..Call::default()
                    }),
                };
                let id = draw.id();
                steps.push(Step { id, kind });
            }
        }
        // The last call states no undo.
        2 => {
            let id = draw.id();
            steps.push(Step { id, kind: Kind::Call(Call { undo: Undo::Unstated, ..Call::default() }) });
        }
        _ => {
            if draw.rng.chance(300) {
                let id = draw.id();
                steps.push(Step { id, kind: Kind::Fail });
            }
        }
    }
    Spec {
        steps,
        timeout: draw.rng.chance(300).then(|| 500 + draw.rng.below(6_000)),
        lock: draw.rng.chance(200),
        finally: draw.rng.chance(500),
    }
}

impl Draw<'_> {
    fn id(&mut self) -> String {
        self.count += 1;
        format!("s{}", self.count)
    }

    fn check(&mut self) -> Check {
        match self.rng.below(4) {
            0 => Check::Ask,
            1 => Check::Conclusive,
            _ => Check::No,
        }
    }

    fn step(&mut self, depth: usize) -> Step {
        let id = self.id();
        let kind = match self.rng.below(12) {
            0 => Kind::Emit { stated: true },
            1 => Kind::Set,
            2 => Kind::Wait(10 + self.rng.below(5_000)),
            3 => Kind::Skipped,
            4 | 5 if depth < 3 => {
                let count = 1 + self.rng.below(2) as usize;
                let arms = (0..count)
                    .map(|_| (0..=self.rng.below(1)).map(|_| self.step(depth + 1)).collect())
                    .collect::<Vec<Vec<Step>>>();
                // Sometimes none of them matches.
                let taken = self.rng.below(count as u64 + 1) as usize;
                Kind::Switch { arms, taken }
            }
            _ => Kind::Call(Call {
                undo: match self.rng.below(6) {
                    0 => Undo::None,
                    1 => Undo::Emit,
                    _ => Undo::Call,
                },
                check: self.check(),
                optional: self.rng.chance(250),
                park_unknown: self.rng.chance(200),
                proof: self.rng.chance(100),
                pivot: false,
            }),
        };
        Step { id, kind }
    }
}
