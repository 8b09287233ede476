//! Reads triggers by the clock.

use jiff::tz::TimeZone;

use super::diagnostic::Finding;
use super::file::Loader;
use super::reader::{At, Map};
use super::schedule::{CatchUp, Cron, EVERY_MIN, Rhythm, Schedule};
use crate::expression::Root;

impl Loader<'_> {
    /// Reads an entry of `on` with `every` or `cron`.
    pub(super) fn schedule(&mut self, map: Map<'_>) -> Option<Schedule> {
        let without = |key: &str| match key {
            "timezone" => map.has("every"),
            _ => matches!(key, "event" | "when" | "on_replay") || (key == "cron" && map.has("every")),
        };
        for entry in map.entries.iter().filter(|entry| without(&entry.key)) {
            let what = if entry.key == "timezone" { "beside `every`" } else { "on a trigger by the clock" };
            let message = format!("`{}` has no meaning {what}", entry.key);
            let help =
                "an entry of `on` has one of `event`, `webhook`, `every` and `cron`; `timezone` belongs to `cron`";
            self.reader.find(Finding::new("S016", entry.key_span.clone(), message).help(help));
        }
        let rhythm = match (map.get("every"), map.get("cron")) {
            (Some(node), _) => {
                let span = self.reader.duration(node, "`every`")?;
                if span < EVERY_MIN {
                    let message = format!("the shortest interval is {EVERY_MIN}");
                    self.reader.find(Finding::new("S011", node.span.clone(), message));
                    return None;
                }
                Rhythm::Every(span)
            }
            (None, Some(node)) => {
                let zone = match map.get("timezone") {
                    None => TimeZone::UTC,
                    Some(node) => {
                        let name = self.reader.literal(node, "`timezone`")?;
                        let Ok(zone) = TimeZone::get(name) else {
                            let message = format!("there is no time zone `{name}`");
                            let help = "write its IANA name, such as Europe/Berlin";
                            self.reader.find(Finding::new("S025", node.span.clone(), message).help(help));
                            return None;
                        };
                        zone
                    }
                };
                let text = self.reader.literal(node, "`cron`")?;
                match Cron::parse(text, zone) {
                    Ok(cron) => Rhythm::Cron(cron),
                    Err(error) => {
                        let help = "such as `0 3 * * *`, every night at three, or `*/15 9-17 * * mon-fri`";
                        self.reader.find(Finding::new("S025", node.span.clone(), error).help(help));
                        return None;
                    }
                }
            }
            (None, None) => return None,
        };
        let roots = &[Root::Event];
        let key = map.get("key").and_then(|node| self.reader.text_template(node, "`key`", roots, At::Outside));
        let input = map.get("input").and_then(|node| self.reader.template(node, roots, At::Outside));
        let words = [("none", CatchUp::None), ("one", CatchUp::One), ("all", CatchUp::All)];
        let catch_up = map.get("catch_up").and_then(|node| self.reader.word(node, "`catch_up`", &words));
        Some(Schedule { rhythm, catch_up: catch_up.unwrap_or(CatchUp::None), key, input })
    }
}
