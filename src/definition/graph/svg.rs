//! SVG without any tool: boxes in rows, each below what it follows.

use super::draw::shortened;
use super::{Form, Graph};

const CHAR_WIDTH: usize = 7;
const LINE_HEIGHT: usize = 16;
const PADDING: usize = 10;
const GAP_X: usize = 28;
const GAP_Y: usize = 48;

/// A box in the picture, in pixels.
struct Placed {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// Draws a graph as an SVG document.
#[must_use]
pub fn svg(graph: &Graph) -> String {
    let (boxes, width, height) = placed(graph);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{}</title>\n<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n",
        escape(&graph.title)
    );
    for edge in &graph.edges {
        let (from, to) = (&boxes[edge.from], &boxes[edge.to]);
        let dash = if edge.failure { " stroke-dasharray=\"5 4\"" } else { "" };
        let (x1, y1) = (from.x + from.width / 2, from.y + from.height);
        let (x2, y2) = (to.x + to.width / 2, to.y);
        let path = if y2 > y1 {
            format!("M{x1} {y1} C{x1} {} {x2} {} {x2} {y2}", y1 + GAP_Y / 2, y2 - GAP_Y / 2)
        } else {
            // Back to a step above: around the right side.
            let right = x1.max(x2) + to.width / 2 + GAP_X;
            format!("M{x1} {y1} C{right} {} {right} {} {} {}", y1 + GAP_Y, to.y, to.x + to.width, to.y + to.height / 2)
        };
        out.push_str(&format!("<path d=\"{path}\" fill=\"none\" stroke=\"#333\" marker-end=\"url(#arrow)\"{dash}/>\n"));
        if let Some(label) = &edge.label {
            let (x, y) = ((x1 + x2) / 2, (y1 + y2) / 2);
            out.push_str(&format!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#555\">{}</text>\n",
                escape(&shortened(label))
            ));
        }
    }
    for (node, place) in graph.nodes.iter().zip(&boxes) {
        let Placed { x, y, width, height } = place;
        let radius = match node.form {
            Form::End => height / 2,
            Form::Choice | Form::Fork => 0,
            Form::Work | Form::Wait | Form::Fail => 6,
        };
        let fill = match node.form {
            Form::End => "#eee",
            Form::Work => "#fff",
            Form::Choice => "#fdf6e3",
            Form::Fork => "#e8f4fd",
            Form::Wait => "#eef7ea",
            Form::Fail => "#fdecea",
        };
        let stroke = if node.pivot { 4 } else { 1 };
        out.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\" fill=\"{fill}\" stroke=\"#333\" stroke-width=\"{stroke}\"/>\n"
        ));
        for (at, line) in node.lines.iter().enumerate() {
            let weight = if at == 0 { " font-weight=\"bold\"" } else { "" };
            out.push_str(&format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\"{weight}>{}</text>\n",
                x + width / 2,
                y + PADDING + LINE_HEIGHT * (at + 1) - 4,
                escape(&shortened(line))
            ));
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Puts each node into the row below the lowest that leads to it; returns the boxes and the picture's size.
fn placed(graph: &Graph) -> (Vec<Placed>, usize, usize) {
    let mut rows = vec![0_usize; graph.nodes.len()];
    // Nodes are in the order of the file, so only an arrow back (a `for`) leads to an earlier one.
    for to in 0..graph.nodes.len() {
        let above = graph.edges.iter().filter(|edge| edge.to == to && edge.from < to).map(|edge| rows[edge.from] + 1);
        rows[to] = above.max().unwrap_or(0);
    }
    let size = |node: &super::Node| {
        let chars = node.lines.iter().map(|line| shortened(line).chars().count()).max().unwrap_or(1);
        (chars * CHAR_WIDTH + 2 * PADDING, node.lines.len() * LINE_HEIGHT + 2 * PADDING)
    };
    let sizes: Vec<(usize, usize)> = graph.nodes.iter().map(size).collect();
    let count = rows.iter().max().map_or(0, |last| last + 1);
    let in_row = |row: usize| rows.iter().enumerate().filter(move |(_, of)| **of == row).map(|(node, _)| node);
    let row_width = |row: usize| in_row(row).map(|node| sizes[node].0 + GAP_X).sum::<usize>();
    let width = (0..count).map(row_width).max().unwrap_or(0) + GAP_X;
    let mut boxes: Vec<Placed> =
        sizes.iter().map(|(width, height)| Placed { x: 0, y: 0, width: *width, height: *height }).collect();
    let mut y = GAP_X;
    for row in 0..count {
        let mut x = (width - row_width(row)) / 2 + GAP_X / 2;
        let mut tallest = 0;
        for node in in_row(row) {
            boxes[node].x = x;
            boxes[node].y = y;
            x += sizes[node].0 + GAP_X;
            tallest = tallest.max(sizes[node].1);
        }
        y += tallest + GAP_Y;
    }
    (boxes, width, y)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
