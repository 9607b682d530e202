use super::*;
use crate::result::{RESPONSE, SCHEMA, SERVICE, parse, to_json};

/// A result of `millis` as its latencies, a second each.
fn document(millis: &[u64]) -> Document {
    let mut times = crate::record::histogram();
    let series = (1..).zip(millis).map(|(t, &millis)| {
        let mut second = crate::record::histogram();
        second.record(millis * 1_000_000).unwrap();
        times.add(&second).unwrap();
        Second {
            t,
            n: 1,
            bytes: 10,
            max: second.max(),
            hist: Some(Encoded::encode(&second)),
            ..Second::default()
        }
    });
    let series = series.collect();
    let mut document = Document {
        schema: SCHEMA.to_owned(),
        started: "2026-11-20T23:10:00Z".to_owned(),
        series,
        latency_ns: Latency::of(&times, SERVICE.to_owned(), 1),
        ..Document::default()
    };
    document.tool.engine = "epoll".to_owned();
    document.target.url = "http://a/".to_owned();
    document.plan.connections = 10;
    document.plan.duration_s = 3.0;
    document.run.elapsed_s = 2.0;
    document.run.responses = times.len();
    document.run.connections_min = Some(9);
    document.histograms.service = Some(Encoded::encode(&times));
    document.status.insert("2xx".to_owned(), times.len());
    document.client.cpu_ns = Some(1_000);
    document
}

fn check_refused(change: impl Fn(&mut Document), part: &str) {
    let mut other = document(&[1]);
    change(&mut other);
    let said = merge(&[document(&[1]), other]).unwrap_err().to_string();
    assert!(said.contains(part), "{said}");
    assert!(!said.contains('\n'), "{said}");
}

#[test]
fn sum_is_the_result_of_all_requests() {
    let (one, two) = (document(&[1, 2, 3]), document(&[40, 50]));
    let merged = merge(&[one, two]).unwrap();
    let mut by_hand = crate::record::histogram();
    for millis in [1, 2, 3, 40, 50] {
        by_hand.record(millis * 1_000_000).unwrap();
    }
    let sum = merged
        .histograms
        .service
        .as_ref()
        .unwrap()
        .decode()
        .unwrap();
    assert_eq!(sum, by_hand);
    assert_eq!(
        merged.latency_ns,
        Latency::of(&by_hand, SERVICE.to_owned(), 2)
    );
    assert_eq!(merged.run.responses, 5);
    assert!((merged.run.rps - 2.5).abs() < 1e-9);
    assert_eq!(merged.run.connections_min, Some(18));
    assert_eq!(merged.plan.connections, 20);
    assert_eq!(merged.status["2xx"], 5);
    assert_eq!(
        (merged.client.cpu_ns, merged.client.cpu_ns_per_req),
        (Some(2_000), Some(400))
    );
    let seconds: Vec<_> = merged
        .series
        .iter()
        .map(|second| (second.t, second.n, second.bytes))
        .collect();
    assert_eq!(seconds, [(1, 2, 20), (2, 2, 20), (3, 1, 10)]);
    let second = merged.series[0].hist.as_ref().unwrap().decode().unwrap();
    assert_eq!(
        (second.len(), second.equivalent(second.max(), 40_000_000)),
        (2, true)
    );
    assert_eq!(parse(&to_json(&merged)).unwrap(), merged);
}

#[test]
fn order_and_grouping_change_nothing() {
    let [one, two, three] = [&[1, 9][..], &[2][..], &[700, 3][..]].map(document);
    let all = merge(&[one.clone(), two.clone(), three.clone()]).unwrap();
    let turned = merge(&[three.clone(), one.clone(), two.clone()]).unwrap();
    let nested = merge(&[merge(&[one, two]).unwrap(), three]);
    assert_eq!(turned.histograms, all.histograms);
    assert_eq!(turned.series, all.series);
    // The first sum asks for twice the connections, which two runs may differ in.
    assert_eq!(nested.unwrap().histograms, all.histograms);
}

#[test]
fn runs_on_different_cpus_can_be_added() {
    let [mut one, mut two] = [&[1][..], &[2][..]].map(document);
    one.plan.pin = vec![0, 2];
    two.plan.pin = vec![1];
    assert_eq!(merge(&[one, two]).unwrap().plan.pin, [0, 2, 1]);
}

#[test]
fn results_of_different_plans_are_refused() {
    check_refused(
        |d| d.target.url = "http://b/".to_owned(),
        "target.url is http://b/ here and http://a/ in the first",
    );
    check_refused(
        |d| d.plan.duration_s = 4.0,
        "plan.duration_s is 4.0 here and 3.0 in",
    );
    check_refused(|d| d.plan.method = "PUT".to_owned(), "plan.method");
    check_refused(|d| d.plan.requests = Some(5), "plan.requests");
    check_refused(|d| d.plan.spin_s = 1e-4, "plan.spin_s is 0.0001 here");
    check_refused(
        |d| d.plan.drain = Some("copy".to_owned()),
        "plan.drain is \"copy\" here",
    );
    check_refused(
        |d| d.plan.stamp = Some("batch".to_owned()),
        "plan.stamp is \"batch\" here",
    );
    check_refused(
        |d| d.latency_ns.clock = RESPONSE.to_owned(),
        "latency_ns.clock is response here and service",
    );
    check_refused(
        |d| d.histograms.service = None,
        "histogram service is not in all files",
    );
    assert_eq!(merge(&[]), Err(MergeError::Nothing));
}

#[test]
fn result_without_histograms_has_no_sum() {
    let mut bare = document(&[1]);
    bare.histograms = Histograms::default();
    assert_eq!(
        merge(&[bare.clone(), bare]),
        Err(MergeError::Lacks { name: "service" })
    );
}

#[test]
fn what_cannot_be_added_is_told() {
    let (mut one, mut two) = (document(&[1]), document(&[2]));
    one.verdict.notes = vec!["closed loop: ...".to_owned()];
    two.verdict.notes.clone_from(&one.verdict.notes);
    two.started = "2026-11-20T23:10:09Z".to_owned();
    two.verdict.valid = false;
    two.verdict.slo.push(crate::result::Gate::default());
    two.tool.engine = "uring".to_owned();
    let merged = merge(&[one, two]).unwrap();
    let notes = &merged.verdict.notes;
    assert_eq!(notes[..2], ["sum of 2 results", "closed loop: ..."]);
    assert!(notes[2].contains("gates"), "{notes:?}");
    assert!(notes[3].starts_with("started 9 s apart"), "{notes:?}");
    assert_eq!(
        (merged.verdict.valid, merged.tool.engine.as_str()),
        (false, "epoll+uring")
    );
    assert_eq!(merged.started, "2026-11-20T23:10:00Z");
}

#[test]
fn rates_of_parts_are_the_rate_of_the_sum() {
    let (mut one, mut two) = (document(&[1, 2]), document(&[3, 4]));
    for document in [&mut one, &mut two] {
        document.plan.rate = Some(1.0);
    }
    let merged = merge(&[one, two]).unwrap();
    assert_eq!(merged.plan.rate, Some(2.0));
    assert_eq!(merged.run.rate_ratio, Some(1.0));
}

#[test]
fn more_samples_than_a_histogram_may_claim_are_refused() {
    let mut times = crate::record::histogram();
    times.record_n(5_000_000, SAMPLES_MAX).unwrap();
    let mut huge = document(&[1]);
    huge.histograms.service = Some(Encoded::encode(&times));
    assert_eq!(merge(&[huge.clone(), huge]), Err(MergeError::TooMany));
}
