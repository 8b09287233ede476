//! Mermaid and DOT.

use super::{Edge, Form, Graph, Node};

/// Characters of a line in a box; a longer one makes the picture unreadable.
const LINE_CHARS_MAX: usize = 48;

pub(super) fn shortened(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= LINE_CHARS_MAX {
        return text;
    }
    text.chars().take(LINE_CHARS_MAX - 1).chain(['…']).collect()
}

/// Writes a graph for Mermaid.
#[must_use]
pub fn mermaid(graph: &Graph) -> String {
    let escape = |text: &str| {
        shortened(text)
            .replace('&', "#amp;")
            .replace('"', "#quot;")
            .replace('<', "#lt;")
            .replace('>', "#gt;")
            .replace('`', "#96;")
    };
    let node = |(at, node): (usize, &Node)| {
        let label = node.lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("<br/>");
        let (open, close) = match node.form {
            Form::End => ("([", "])"),
            Form::Work => ("[", "]"),
            Form::Choice => ("{", "}"),
            Form::Fork => ("[/", "/]"),
            Form::Wait => ("{{", "}}"),
            Form::Fail => (">", "]"),
        };
        let class = if node.pivot { ":::pivot" } else { "" };
        format!("  n{at}{open}\"{label}\"{close}{class}\n")
    };
    let edge = |edge: &Edge| {
        let arrow = if edge.failure { "-.->" } else { "-->" };
        let label = edge.label.as_ref().map_or_else(String::new, |label| format!("|\"{}\"|", escape(label)));
        format!("  n{} {arrow}{label} n{}\n", edge.from, edge.to)
    };
    let mut out = String::from("flowchart TD\n");
    out.extend(graph.nodes.iter().enumerate().map(node));
    out.extend(graph.edges.iter().map(edge));
    if graph.nodes.iter().any(|node| node.pivot) {
        out.push_str("  classDef pivot stroke-width:4px\n");
    }
    out
}

/// Writes a graph in Graphviz' language.
#[must_use]
pub fn dot(graph: &Graph) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let node = |(at, node): (usize, &Node)| {
        let label = node.lines.iter().map(|line| escape(&shortened(line))).collect::<Vec<_>>().join("\\n");
        let shape = match node.form {
            Form::End => "oval",
            Form::Work => "box",
            Form::Choice => "diamond",
            Form::Fork => "parallelogram",
            Form::Wait => "hexagon",
            Form::Fail => "octagon",
        };
        let width = if node.pivot { ", penwidth=3" } else { "" };
        format!("  n{at} [shape={shape}, label=\"{label}\"{width}];\n")
    };
    let edge = |edge: &Edge| {
        let mut attributes = Vec::new();
        attributes.extend(edge.label.as_ref().map(|label| format!("label=\"{}\"", escape(&shortened(label)))));
        if edge.failure {
            attributes.push("style=dashed".to_owned());
        }
        let attributes = if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
        format!("  n{} -> n{}{attributes};\n", edge.from, edge.to)
    };
    let mut out = format!("digraph \"{}\" {{\n", escape(&graph.title));
    out.extend(graph.nodes.iter().enumerate().map(node));
    out.extend(graph.edges.iter().map(edge));
    out.push_str("}\n");
    out
}
