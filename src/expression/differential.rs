//! The small evaluator against jq: whatever it answers, jq answers too, equally. And neither can be made
//! to panic, to hang or to eat the stack.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestCaseError};

use super::json::Value;
use super::program::Stop;
use super::*;

const DOCUMENT: &str = r#"{"a":1,"b":"text","c":[1,2,{"a":3,"b":null}],"d":{"a":{"a":-7,"b":[]},"b":false},
    "n":null,"t":true,"f":0.5,"g":2.50,"e":1e3,"big":9223372036854775807,"huge":123456789012345678901234567890,
    "s":"é\n\"x\" 😀","empty":{},"none":[],"lines":[{"qty":2,"price":10,"sku":"x"},{"qty":1,"price":5,"sku":"y"}],
    "words":["x","y","z"],"mixed":[null,1,"a"],"a\u0062":"escaped","dup":1,"dup":2}"#;

struct One(Payload);

impl Scope for One {
    fn get(&self, _variable: Variable<'_>) -> Bound<'_> {
        Bound::Json(&self.0)
    }
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a", "b", "c", "d", "n", "t", "f", "g", "e", "big", "huge", "s", "empty", "none", "lines", "words", "mixed",
        "ab", "dup", "qty", "sku", "zzz",
    ])
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => key().prop_map(|key| format!(".{key}")),
        1 => (-3_i32..4).prop_map(|index| format!("[{index}]")),
        1 => key().prop_map(|key| format!("[\"{key}\"]")),
    ];
    (prop::collection::vec(part, 1..4), prop::bool::ANY).prop_map(|(parts, dot)| {
        let parts = parts.concat();
        match (dot, parts.starts_with('.')) {
            (true, true) => parts,
            (true, false) => format!(".{parts}"),
            (false, _) => format!("$input{parts}"),
        }
    })
}

fn source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => path(),
        1 => Just(".".to_owned()),
        1 => Just("$input".to_owned()),
        1 => prop::sample::select(vec!["null", "true", "false", "0", "1", "-1", "42", "9223372036854775807", "0.5", "2.50", "\"x\"", "\"é\\n\"", "[]", "{}"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            2 => (two.clone(), prop::sample::select(vec!["+", "-", "*", "%", "/"])).prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            2 => (two.clone(), prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="])).prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            1 => (two.clone(), prop::sample::select(vec!["and", "or"])).prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            2 => two.clone().prop_map(|(a, b)| format!("({a} // {b})")),
            2 => two.clone().prop_map(|(a, b)| format!("({a} | {b})")),
            1 => (inner.clone(), two.clone()).prop_map(|(c, (a, b))| format!("(if {c} then {a} else {b} end)")),
            1 => (inner.clone(), inner.clone()).prop_map(|(c, a)| format!("(if {c} then {a} end)")),
            2 => prop::collection::vec((key(), inner.clone()), 0..3).prop_map(|members| {
                format!("{{{}}}", members.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", "))
            }),
            1 => prop::collection::vec(key(), 1..3).prop_map(|keys| format!("{{{}}}", keys.join(", "))),
            2 => prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            1 => inner.clone().prop_map(|a| format!("\"<\\({a})>\"")),
            2 => inner.clone().prop_map(|a| format!("({a} | length)")),
            1 => inner.clone().prop_map(|a| format!("({a} | not)")),
            1 => inner.clone().prop_map(|a| format!("({a} | tostring)")),
            1 => inner.clone().prop_map(|a| format!("({a} | add)")),
            2 => two.prop_map(|(a, b)| format!("({a} | map({b}))")),
            1 => inner.prop_map(|a| format!("(-({a}))")),
        ]
    })
}

fn config(cases: u32) -> Config {
    // `make fuzz` asks for more.
    let cases = std::env::var("FUZZ_CASES").map_or(cases, |cases| cases.parse().expect("FUZZ_CASES is a number"));
    Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() }
}

#[test]
fn the_small_evaluator_answers_as_jq_does() {
    let world = One(Payload::parse(DOCUMENT).unwrap());
    let (mut answered, mut unsure) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::new(config(4_000));
    let result = runner.run(&(source(), prop::bool::ANY), |(source, _)| {
        let Ok(expression) = Expression::compile(&source, Root::ALL) else {
            return Err(TestCaseError::fail("a generated expression does not compile"));
        };
        let Some(small) = &expression.small else {
            return Err(TestCaseError::fail("a generated expression is beyond the small evaluator"));
        };
        let bound = vec![world.get(Variable::Input); expression.names.len()];
        let variables: Vec<Value<'_>> = bound.iter().map(value_of).collect();
        match small.run(&variables) {
            Err(Stop::Unsure) => Ok(()),
            Err(Stop::Exhausted) => Err(TestCaseError::fail("a small expression used up the budget")),
            Ok(value) => {
                let mut ours = String::new();
                assert!(value.write(&mut ours, OUTPUT_BYTES_MAX));
                let theirs = expression.jq().unwrap().run(&variables).map_err(TestCaseError::fail)?;
                let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                prop_assert_eq!(read(&ours), read(&theirs));
                Ok(())
            }
        }
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // How much of it is ours: a test that always says "unsure" would prove nothing.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..500 {
        let source = source().new_tree(&mut runner).unwrap().current();
        let expression = Expression::compile(&source, Root::ALL).unwrap();
        let bound = vec![world.get(Variable::Input); expression.names.len()];
        let variables: Vec<Value<'_>> = bound.iter().map(value_of).collect();
        match expression.small.as_ref().map(|small| small.run(&variables).is_ok()) {
            Some(true) => answered += 1,
            Some(false) | None => unsure += 1,
        }
    }
    assert!(answered > 150, "only {answered} of {} are answered by the small evaluator", answered + unsure);
}

/// Runs on a stack of 1 MiB: half of what a tokio worker has.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn chains_and_nests_at_the_limit_fit_a_small_stack() {
    on_a_small_stack(|| {
        let world = One(Payload::parse(format!("{}1{}", "[".repeat(127), "]".repeat(127))).unwrap());
        let nested = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
        let sources = [
            "-".repeat(510) + "1",
            "-".repeat(98) + "1",
            "try ".repeat(98) + "1",
            vec![".a?"; 98].join("//"),
            vec!["."; 99].join("|"),
            vec!["."; 250].join("|"),
            vec!["1"; 99].join("+"),
            vec!["1"; 250].join("+"),
            vec!["1"; 250].join(","),
            vec![".a"; 250].join("//"),
            vec!["try ."; 160].join("|"),
            "try ".repeat(500) + "1",
            ".a".repeat(500),
            ".[0]".repeat(150),
            nested("[", "]", 63),
            nested("(", ")", 63),
            nested("map(", ")", 60),
            nested("{a:", "}", 60),
            nested("\"\\(", ")\"", 30),
            nested("if 1 then ", " end", 150),
            ". as $x | ".repeat(100) + "1",
            "reduce . as $x (1; . + 1) | ".repeat(30) + ".",
            nested("first(", ")", 60),
            "[$input]".to_owned() + &"|flatten".repeat(100),
            "$input | tojson | fromjson | tostring".to_owned(),
            "$input == [$input]".to_owned(),
            "[$input,1] | sort".to_owned(),
        ];
        for source in sources {
            if let Ok(expression) = Expression::compile(&source, Root::ALL) {
                let _ = expression.eval(&world);
                let _ = expression.jq().map(|jq| jq.run(&vec![Value::of(world.0.text()); expression.names.len()]));
            }
        }
    });
}

#[test]
fn bombs_end() {
    let world = One(Payload::parse(format!("[{}1]", "1,".repeat(100_000))).unwrap());
    let doublings = "[0,1]".to_owned() + &" | . + .".repeat(60);
    let pairs = "[0]".to_owned() + &" | [.,.]".repeat(60);
    let objects = "{a: 1}".to_owned() + &" | {a: ., b: .}".repeat(50);
    let choices = ".".to_owned() + &" | (.,.)".repeat(80);
    let texts = "\"xxxxxxxx\"".to_owned() + &" | . + .".repeat(60);
    let maps = "$input | ".to_owned() + &"map($input | ".repeat(8) + "map(.)" + &")".repeat(8);
    let sources = [
        doublings.as_str(),
        &pairs,
        &objects,
        &choices,
        &texts,
        &maps,
        "reduce $input[] as $x ([]; [.])",
        "reduce $input[] as $x ({}; .a = .)",
        "reduce $input[] as $x ([]; . + [$x])",
        "reduce $input[] as $x (\"\"; . + \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\")",
        "[$input[] as $a | $input[] as $b | $a]",
        "$input | map(tojson) | join(\",\") | explode | implode | length",
        "[$input, $input] | map(sort) | unique",
        "$input | map(todate) | length",
        "$input | map(@base64 \"\\(.)\") | length",
        "[limit(1000000000; $input[] | limit(1000000000; $input[]))] | length",
        "$input | combinations",
        "[1000000000] | transpose",
        "$input | group_by(.) | length",
        "$input - $input | length",
        "$input | contains($input)",
        "[$input] | index($input)",
        "$input | del(.[])",
        "$input | map_values(.+1) | add",
        "[foreach $input[] as $x (0; . + $x)] | length",
        "\"x\" * 30000000 | length",
        "[$input[] | tostring | . * 1000] | length",
        "try error([$input,$input,$input]) catch length",
        "error($input)",
    ];
    for source in sources {
        let start = std::time::Instant::now();
        if let Ok(expression) = Expression::compile(source, Root::ALL) {
            let _ = expression.eval(&world);
        }
        // The budget is counted in work, not in time; this only says that counting works at all.
        let took = start.elapsed();
        assert!(took.as_secs() < 60, "{source} took {took:?}");
    }
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn any_text_is_answered(source in "[ -~é]{0,40}") {
        let _ = Expression::compile(&source, Root::ALL);
        let _ = TextTemplate::compile(&source, Root::ALL);
    }

    #[test]
    fn any_tokens_are_answered(tokens in prop::collection::vec(prop::sample::select(vec![
        ".", "..", ".a", "[", "]", "{", "}", "(", ")", ",", ";", ":", "|", "//", "?", "if", "then", "else", "elif", "end",
        "reduce", "foreach", "as", "$x", "$input", "$steps", "$steps.a.output", "$step.key", "def", "f", "try", "catch",
        "label", "break", "and", "or", "not", "+", "-", "*", "/", "%", "==", "<", "=", "|=", "+=", "//=", "1", "0.5", "\"a\"",
        "\"\\(", ")\"", "@base64", "map", "add", "length", "select", "${", "}", "$__loc__", "import", "include", "module",
    ]), 0..14)) {
        let source = tokens.join(" ");
        let world = One(Payload::parse(DOCUMENT).unwrap());
        if let Ok(expression) = Expression::compile(&source, Root::ALL) {
            let _ = expression.eval(&world);
        }
        let _ = TextTemplate::compile(&source, Root::ALL);
    }
}
