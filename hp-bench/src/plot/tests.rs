use super::*;
use crate::record::histogram;
use crate::result::{Encoded, Latency, SERVICE};

/// Ten seconds of a hundred answers each, around a millisecond, with a stall in the seventh.
fn document() -> Document {
    let mut document = Document::default();
    let mut all = histogram();
    for t in 1..=10_u64 {
        let mut times = histogram();
        for i in 0..100 {
            times.record(1_000_000 + i * 7_000).unwrap();
        }
        if t == 7 {
            times.record(900_000_000).unwrap();
        }
        all.add(&times).unwrap();
        document.series.push(Second {
            t,
            n: times.len(),
            p50: times.value_at_quantile(0.5),
            p99: times.value_at_quantile(0.99),
            max: times.max(),
            hist: Some(Encoded::encode(&times)),
            ..Second::default()
        });
    }
    document.target.url = "http://a/<b>&\"c\"".to_owned();
    document.run.elapsed_s = 10.0;
    document.latency_ns = Latency::of(&all, SERVICE.to_owned(), 0);
    document.histograms.service = Some(Encoded::encode(&all));
    document
}

fn names(plots: &[Plot]) -> Vec<&str> {
    plots.iter().map(|plot| plot.name.as_str()).collect()
}

#[test]
fn one_result_has_four_plots() {
    let plots = plots(&[document()]).unwrap();
    assert_eq!(
        names(&plots),
        [
            "latency-by-percentile",
            "rate-over-time",
            "latency-over-time",
            "heat-map"
        ]
    );
    for plot in &plots {
        assert!(plot.svg.starts_with("<svg "), "{}", plot.name);
        assert!(plot.svg.trim_end().ends_with("</svg>"), "{}", plot.name);
        assert!(
            plot.svg.contains("prefers-color-scheme:dark"),
            "{}",
            plot.name
        );
        assert!(!plot.svg.contains("<b>"), "{}: text is escaped", plot.name);
        assert!(
            !plot.svg.contains("NaN") && !plot.svg.contains("inf"),
            "{}",
            plot.name
        );
    }
}

#[test]
fn results_share_the_plots_that_compare_them() {
    let plots = plots(&[document(), document()]).unwrap();
    assert_eq!(
        names(&plots),
        [
            "latency-by-percentile",
            "rate-over-time",
            "latency-over-time-1",
            "heat-map-1",
            "latency-over-time-2",
            "heat-map-2"
        ]
    );
}

#[test]
fn stall_is_a_cell_of_the_heat_map() {
    let filled = |document: &Document| {
        let svg = heat_map(document).unwrap().unwrap();
        svg.matches("<rect ").count()
    };
    let mut calm = document();
    calm.series[6].hist = calm.series[5].hist.clone();
    assert_eq!(filled(&document()), filled(&calm) + 1);
}

#[test]
fn curve_ends_where_ten_samples_are_left() {
    let mut times = histogram();
    for i in 1..=1_000_u64 {
        times.record(i * 1_000_000).unwrap();
    }
    let (last, _nanos) = *curve(&times).last().unwrap();
    assert!(
        (1.7..=2.0).contains(&last),
        "99 % of 1,000 have ten behind them: {last}"
    );
}

#[test]
fn percentiles_are_labelled_by_their_nines() {
    for (nines, want) in [
        (0.0, "0"),
        (1.0, "90"),
        (2.0, "99"),
        (3.0, "99.9"),
        (5.0, "99.999"),
        (1.5, ""),
    ] {
        assert_eq!(percentile_label(nines), want);
    }
}

#[test]
fn hostile_and_empty_results_are_drawn_or_left_out() {
    assert_eq!(plots(&[Document::default()]).unwrap(), []);
    assert_eq!(plots(&[]).unwrap(), []);
    let mut huge = document();
    for second in &mut huge.series {
        (second.t, second.n, second.max) = (1 << 53, 1 << 53, 1 << 53);
        second.p50 = 0;
    }
    huge.run.elapsed_s = 9e15;
    huge.target.url = "x".repeat(100_000);
    for plot in plots(&[huge]).unwrap() {
        assert!(plot.svg.len() < 1_000_000, "{}", plot.name);
    }
    let mut bare = document();
    bare.series.truncate(1);
    assert_eq!(names(&plots(&[bare]).unwrap()), ["latency-by-percentile"]);
}
