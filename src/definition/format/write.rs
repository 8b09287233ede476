//! Writes the tree in normal form.

use super::tree::{Comment, Node, Tree, Value};

/// Braces and brackets that would reach further are written as lines.
const COLUMNS_MAX: usize = 140;
const STEP: usize = 2;

pub(super) fn write(text: &str, tree: &Tree) -> String {
    let mut writer =
        Writer { text, comments: &tree.comments, next: 0, out: String::with_capacity(text.len()), written_to: 0 };
    match &tree.root.value {
        Value::Sequence { .. } | Value::Mapping { .. } if !writer.fits(&tree.root, 0) || tree.root.is_block() => {
            writer.collection(&tree.root, 0, text.len());
        }
        _ => {
            writer.before(tree.root.span.start, 0);
            writer.value(&tree.root, 0);
            writer.line_end(tree.root.span.end);
        }
    }
    writer.rest(0);
    let mut out: String = writer.out;
    out.truncate(out.trim_end_matches('\n').len());
    // A block with `+` at the end of the file keeps its empty lines: they are part of the text.
    let kept = text.len() - text.trim_end_matches(['\n', '\r', ' ']).len();
    let ends_in_kept_block =
        matches!(last(&tree.root).value, Value::Block) && header(text, last(&tree.root)).contains('+');
    out.push('\n');
    if ends_in_kept_block {
        let lines = text[text.len() - kept..].matches('\n').count();
        out.push_str(&"\n".repeat(lines.saturating_sub(1)));
    }
    out
}

fn last(node: &Node) -> &Node {
    match &node.value {
        Value::Sequence { items, .. } => items.last().map_or(node, last),
        Value::Mapping { entries, .. } => entries.last().map_or(node, |(_, value)| last(value)),
        Value::Raw | Value::Block => node,
    }
}

/// Returns the first line of a block of text.
fn header<'t>(text: &'t str, node: &Node) -> &'t str {
    text[node.span.clone()].lines().next().unwrap_or_default()
}

struct Writer<'t> {
    text: &'t str,
    comments: &'t [Comment],
    /// The next comment that is not written yet.
    next: usize,
    out: String,
    /// The byte of the source behind what has been written.
    written_to: usize,
}

impl Writer<'_> {
    fn line_of(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }

    fn column_of(&self, at: usize) -> usize {
        let start = self.text[..at].rfind('\n').map_or(0, |found| found + 1);
        self.text[start..at].chars().count()
    }

    /// True where an empty line stands in the source right above a place.
    fn empty_line_above(&self, at: usize) -> bool {
        let line = self.text[..at].rfind('\n').map_or(0, |found| found + 1);
        let above = self.text[..line].strip_suffix('\n').unwrap_or(&self.text[..line]);
        line > 0 && above.rsplit('\n').next().is_some_and(|line| line.trim().is_empty()) && self.written_to <= line
    }

    fn begin(&mut self, at: usize, indent: usize) {
        if !self.out.is_empty() && self.empty_line_above(at) && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
        self.out.push_str(&" ".repeat(indent));
    }

    /// Writes the comments that stand on lines of their own before a place.
    fn before(&mut self, at: usize, indent: usize) {
        while let Some(comment) = self.comments.get(self.next).filter(|comment| comment.at < at) {
            self.begin(comment.at, indent);
            self.out.push_str(&comment.text);
            self.out.push('\n');
            self.next += 1;
        }
    }

    /// Ends a line with the comment that stands behind it in the source, if one does.
    fn line_end(&mut self, at: usize) {
        self.written_to = self.written_to.max(at);
        let found = self.comments.get(self.next).filter(|comment| !comment.alone);
        if let Some(comment) = found.filter(|comment| self.line_of(comment.at) == self.line_of(at)) {
            // Comments below each other stay so where there is room.
            let start = self.out.rfind('\n').map_or(0, |found| found + 1);
            let width = self.out[start..].chars().count();
            let gap = self.column_of(comment.at).saturating_sub(width).max(1);
            self.out.push_str(&" ".repeat(gap));
            self.out.push_str(&comment.text);
            self.next += 1;
        }
        self.out.push('\n');
    }

    /// Writes what is left at the end of a collection: comments that are indented as far as its entries.
    fn end_of(&mut self, column: usize, indent: usize, limit: usize) {
        while let Some(comment) = self.comments.get(self.next) {
            if comment.at >= limit || self.column_of(comment.at) < column {
                return;
            }
            self.begin(comment.at, indent);
            self.out.push_str(&comment.text);
            self.out.push('\n');
            self.next += 1;
        }
    }

    fn rest(&mut self, indent: usize) {
        self.before(usize::MAX, indent);
    }

    fn has_comment(&self, node: &Node) -> bool {
        self.comments.iter().any(|comment| node.span.contains(&comment.at))
    }

    /// True for a value that can stand behind its key.
    fn fits(&self, node: &Node, column: usize) -> bool {
        match &node.value {
            Value::Raw | Value::Block => true,
            Value::Sequence { items, .. } if items.is_empty() => !self.has_comment(node),
            Value::Mapping { entries, .. } if entries.is_empty() => !self.has_comment(node),
            Value::Sequence { flow: false, .. } | Value::Mapping { flow: false, .. } => false,
            Value::Sequence { .. } | Value::Mapping { .. } => {
                let line = self.flow(node);
                !self.has_comment(node) && !line.contains('\n') && column + line.chars().count() <= COLUMNS_MAX
            }
        }
    }

    /// Returns a value as it stands inside braces.
    fn flow(&self, node: &Node) -> String {
        let anchor = node.anchor.as_ref().map_or_else(String::new, |name| format!("&{name} "));
        let inner = match &node.value {
            Value::Raw | Value::Block => self.text[node.span.clone()].to_owned(),
            Value::Sequence { items, .. } => {
                let items: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Mapping { entries, .. } if entries.is_empty() => "{}".to_owned(),
            Value::Mapping { entries, .. } => {
                let entry = |(key, value): &(Node, Node)| {
                    let (key, value) = (self.flow(key), self.flow(value));
                    if value.is_empty() { format!("{key}:") } else { format!("{key}: {value}") }
                };
                format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        };
        format!("{anchor}{inner}").trim_end().to_owned()
    }

    /// Writes a collection as lines; what stands before `limit` in the source may belong to it.
    fn collection(&mut self, node: &Node, indent: usize, limit: usize) {
        match &node.value {
            Value::Sequence { items, .. } => {
                let column = items.first().map_or(0, |item| self.dash_column(item));
                for (at, item) in items.iter().enumerate() {
                    let limit = items.get(at + 1).map_or(limit, |next| next.span.start);
                    let start = self.first(item);
                    self.before(start, indent);
                    self.begin(start, indent);
                    self.out.push_str("- ");
                    self.item(item, indent + STEP, limit);
                }
                self.end_of(column, indent, limit);
            }
            Value::Mapping { entries, .. } => {
                let column = entries.first().map_or(0, |(key, _)| self.column_of(key.span.start));
                for (at, entry) in entries.iter().enumerate() {
                    let limit = entries.get(at + 1).map_or(limit, |(next, _)| next.span.start);
                    self.before(entry.0.span.start, indent);
                    self.begin(entry.0.span.start, indent);
                    self.entry(entry, indent, limit);
                }
                self.end_of(column, indent, limit);
            }
            Value::Raw | Value::Block => {}
        }
    }

    /// Returns where an item's first line begins in the source.
    fn first(&self, item: &Node) -> usize {
        match &item.value {
            Value::Mapping { entries, flow: false } => {
                entries.first().map_or(item.span.start, |(key, _)| key.span.start)
            }
            Value::Sequence { items, flow: false } => items.first().map_or(item.span.start, |inner| self.first(inner)),
            _ => item.span.start,
        }
    }

    /// Returns the column of the `-` before an item.
    fn dash_column(&self, item: &Node) -> usize {
        let before = &self.text[..self.first(item)];
        before.rfind('-').map_or(0, |at| self.column_of(at))
    }

    /// Writes an item behind its `- `.
    fn item(&mut self, item: &Node, indent: usize, limit: usize) {
        if item.anchor.is_some() || self.fits(item, indent) {
            self.behind(item, indent, limit);
            return;
        }
        match &item.value {
            Value::Mapping { entries, .. } if !entries.is_empty() => {
                let column = entries.first().map_or(0, |(key, _)| self.column_of(key.span.start));
                for (at, entry) in entries.iter().enumerate() {
                    let limit = entries.get(at + 1).map_or(limit, |(next, _)| next.span.start);
                    if at > 0 {
                        self.before(entry.0.span.start, indent);
                        self.begin(entry.0.span.start, indent);
                    }
                    self.entry(entry, indent, limit);
                }
                self.end_of(column, indent, limit);
            }
            Value::Sequence { items, .. } if !items.is_empty() => {
                let column = items.first().map_or(0, |item| self.dash_column(item));
                for (at, item) in items.iter().enumerate() {
                    let limit = items.get(at + 1).map_or(limit, |next| next.span.start);
                    if at > 0 {
                        self.before(self.first(item), indent);
                        self.begin(self.first(item), indent);
                    }
                    self.out.push_str("- ");
                    self.item(item, indent + STEP, limit);
                }
                self.end_of(column, indent, limit);
            }
            _ => self.behind(item, indent, limit),
        }
    }

    fn entry(&mut self, (key, value): &(Node, Node), indent: usize, limit: usize) {
        let key_text = self.flow(key);
        self.out.push_str(&key_text);
        self.out.push(':');
        self.written_to = key.span.end;
        let column = indent + key_text.chars().count() + 2;
        if self.fits(value, column) {
            if !self.flow_is_nothing(value) {
                self.out.push(' ');
            }
            self.behind(value, indent + STEP, limit);
            return;
        }
        if let Some(anchor) = &value.anchor {
            self.out.push_str(&format!(" &{anchor}"));
        }
        self.line_end(key.span.end);
        self.collection(value, indent + STEP, limit);
    }

    fn flow_is_nothing(&self, node: &Node) -> bool {
        node.anchor.is_none() && matches!(node.value, Value::Raw) && self.text[node.span.clone()].trim().is_empty()
    }

    /// Writes a value on the line that has begun.
    fn behind(&mut self, node: &Node, indent: usize, limit: usize) {
        if node.is_block() && !self.fits(node, indent) {
            if let Some(anchor) = &node.anchor {
                self.out.push_str(&format!("&{anchor}"));
            }
            self.line_end(node.span.start.saturating_sub(1));
            self.collection(node, indent, limit);
            return;
        }
        self.value(node, indent);
        if !matches!(node.value, Value::Block) {
            let end = if self.flow_is_nothing(node) { self.written_to } else { node.span.end };
            self.line_end(end);
        }
    }

    /// Writes a scalar or a value in braces.
    fn value(&mut self, node: &Node, indent: usize) {
        if let Some(anchor) = &node.anchor
            && matches!(node.value, Value::Block | Value::Raw)
        {
            self.out.push_str(&format!("&{anchor} "));
        }
        match &node.value {
            Value::Block => self.block(node, indent),
            Value::Raw => {
                // A text over several lines: white space at their beginnings means nothing.
                let raw = &self.text[node.span.clone()];
                for (at, line) in raw.lines().enumerate() {
                    let line = if at == 0 { line } else { line.trim_start() };
                    if at > 0 {
                        self.out.push('\n');
                        if !line.trim().is_empty() {
                            self.out.push_str(&" ".repeat(indent));
                        }
                    }
                    self.out.push_str(if at + 1 < raw.lines().count() { line.trim_end() } else { line });
                }
            }
            Value::Sequence { .. } | Value::Mapping { .. } => {
                let text = self.flow(node);
                self.out.push_str(&text);
            }
        }
    }

    /// Writes `|` or `>` with its lines.
    fn block(&mut self, node: &Node, indent: usize) {
        let end = block_end(self.text, node);
        let raw = &self.text[node.span.start..end];
        let mut lines = raw.lines();
        let header = lines.next().unwrap_or_default();
        let (marker, comment) =
            header.split_once('#').map_or((header, None), |(marker, comment)| (marker, Some(comment)));
        self.out.push_str(marker.trim_end());
        if comment.is_some() {
            self.line_end(node.span.start);
        } else {
            self.out.push('\n');
        }
        let lines: Vec<&str> = lines.collect();
        let inner = lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .map(|line| line.len() - line.trim_start_matches(' ').len())
            .next()
            .unwrap_or(0);
        let keeps = marker.contains('+');
        let count = if keeps {
            lines.len()
        } else {
            lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |at| at + 1)
        };
        for line in &lines[..count] {
            if line.len() <= inner && line.trim().is_empty() {
                self.out.push('\n');
            } else {
                self.out.push_str(&" ".repeat(indent));
                self.out.push_str(line.get(inner..).unwrap_or_default());
                self.out.push('\n');
            }
        }
        self.written_to = if keeps { end } else { node.span.start + raw.trim_end().len() };
    }
}

/// Returns where a block's lines end; the parser's end may stand behind the next line's white space.
fn block_end(text: &str, node: &Node) -> usize {
    let head = text[..node.span.end].trim_end_matches(' ');
    if head.ends_with('\n') {
        return head.len().max(node.span.start);
    }
    node.span.end + text[node.span.end..].find('\n').map_or(text.len() - node.span.end, |at| at + 1)
}
