//! `cache`: an answer from memory is none for a call that has an effect.

use super::diagnostic::Finding;
use super::file::Loader;
use super::model::{Action, Compensate};
use super::point::of_step;
use super::yaml::Node;

impl Loader<'_> {
    /// Refuses a `cache` on a call that may have an effect.
    pub(super) fn cache_rules(&mut self, tree: &Node) {
        for (index, step) in self.steps.iter().enumerate() {
            let harmless = match &step.action {
                Action::Call(call) => call.reads,
                Action::Poll(_)
                | Action::Emit(_)
                | Action::Set(_)
                | Action::Wait(_)
                | Action::Switch(_)
                | Action::Fail(_)
                | Action::Await(_)
                | Action::Ask(_)
                | Action::Parallel(_)
                | Action::For(_)
                | Action::Try(_)
                | Action::Run(_) => true,
            };
            let stated = matches!(step.compensate, Compensate::None);
            if step.cache.is_none() || harmless || stated || self.broken.contains(&(index as u32)) {
                continue;
            }
            let span = of_step(tree, step.id.as_str(), "cache").unwrap_or_else(|| self.places[index].id.clone());
            let message = format!("step `{}` may have an effect; an answer from memory would leave it out", step.id);
            let help = "use `cache` with GET, HEAD, or where `compensate: none` says that there is no effect";
            self.reader.findings.push(Finding::new("S049", span, message).help(help));
        }
    }
}
