//! Pictures and plans of one saga with everything in it.

use super::*;
use crate::definition::tests::World;
use crate::definition::{SagaDefinition, load};

const TRIP: &str = "saga: trip
steps:
  - { id: quote, call: payments, with: { method: GET, path: /quote } }
  - id: stay
    parallel:
      branches:
        hotel:
          - { id: hotel, call: inventory, with: { method: POST, path: /hotels }, compensate: { with: { method: DELETE, path: \"/hotels/${ $forward.key }\" } } }
          - { id: note, emit: order.fulfilled.v1, data: { orderId: x }, compensate: none }
        car:
          - { id: car, call: inventory, with: { method: POST, path: /cars }, compensate: { with: { method: DELETE, path: /cars } } }
  - id: seats
    for: { in: \"${ $input.people }\" }
    do:
      - { id: seat, call: inventory, with: { method: POST, path: /seats }, compensate: { with: { method: DELETE, path: /seats } } }
  - id: meal
    try:
      - { id: order_meal, call: inventory, with: { method: POST, path: /meals }, compensate: { with: { method: DELETE, path: /meals } } }
    catch:
      - { on: refused, do: [{ id: no_meal, set: none }] }
  - { id: approval, ask: Book it?, timeout: 1h, on_timeout: [{ id: late, fail: { type: late, title: nobody answered } }] }
  - id: route
    switch:
      - { when: \"${ $input.card }\", do: [{ id: pay, call: payments, with: { method: POST, path: /pay }, pivot: true }] }
      - { else: [{ id: stop, fail: { type: no_card, title: no card }}] }
  - { id: ticket, call: shipping, with: { method: POST, path: /tickets } }
";

fn saga(text: &str) -> SagaDefinition {
    let world = World::new();
    load("trip.yaml", text, &world.environment()).unwrap_or_else(|found| panic!("{found:#?}")).definition
}

/// Compares with a file that people read; `UPDATE_GOLDEN=1` rewrites it.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "tests/graphs/{name} is not what is drawn:\n{text}\nUPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn pictures() {
    let graph = flow(&saga(TRIP));
    golden("trip.mmd", &mermaid(&graph));
    golden("trip.dot", &dot(&graph));
    golden("trip.svg", &svg(&graph));
    let order = flow(&saga(crate::definition::tests::ORDER));
    golden("order-fulfilment.mmd", &mermaid(&order));
}

#[test]
fn plans() {
    let saga = saga(TRIP);
    let mut text = String::new();
    for step in ["quote", "hotel", "note", "seat", "order_meal", "no_meal", "approval", "late", "pay", "stop", "ticket"]
    {
        let index = saga.find(step).unwrap();
        text.push_str(&format!("undo from `{step}`:\n"));
        match plan(&saga, index) {
            Ok(plan) => text.push_str(&plan.text()),
            Err(why) => text.push_str(&format!("{why}\n")),
        }
        text.push('\n');
    }
    golden("trip-undo.txt", &text);
    let undo = plan(&saga, saga.find("approval").unwrap()).unwrap();
    golden("trip-undo.mmd", &mermaid(&undo.graph("approval")));
}

/// Every node is reached from the first, and every arrow leads from a node to a node.
#[test]
fn nothing_hangs_in_the_air() {
    let graph = flow(&saga(TRIP));
    let mut reached = vec![false; graph.nodes.len()];
    reached[0] = true;
    for _ in 0..graph.nodes.len() {
        for edge in &graph.edges {
            reached[edge.to] |= reached[edge.from];
        }
    }
    assert!(reached.iter().all(|reached| *reached), "{reached:?}");
}

/// What stands in a file cannot break out of a picture.
#[test]
fn texts_are_escaped() {
    let graph = flow(&saga("saga: a\nsteps:\n  - { id: a, ask: \"<b>\\\"x\\\" & `y` | \\\\ ok?\" }\n"));
    let [mermaid, dot, svg] = [mermaid(&graph), dot(&graph), svg(&graph)];
    assert!(mermaid.contains("#lt;b#gt;#quot;x#quot; #amp; #96;y#96;"), "{mermaid}");
    assert!(dot.contains(r#"<b>\"x\" & `y` | \\ ok?"#), "{dot}");
    assert!(svg.contains("&lt;b&gt;&quot;x&quot; &amp; `y` | \\ ok?"), "{svg}");
}
