//! The Kubernetes manifest of the documentation has the shape of an Indexed Job (batch/v1).

use std::ffi::OsString;

use hp_bench::plan::Plan;
use yaml_rust2::{Yaml, YamlLoader};

const MANIFEST: &str = include_str!("../../../docs/bench/job.yaml");

fn job() -> Yaml {
    let mut documents = YamlLoader::load_from_str(MANIFEST).unwrap();
    assert_eq!(documents.len(), 1, "one document");
    documents.remove(0)
}

/// Each key of a map is one that the Kubernetes API has at this place.
fn check_keys(map: &Yaml, known: &[&str]) {
    for key in map.as_hash().unwrap().keys() {
        let key = key.as_str().unwrap();
        assert!(known.contains(&key), "{key} is none of {known:?}");
    }
}

fn text<'a>(map: &'a Yaml, key: &str) -> &'a str {
    map[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text"))
}

#[test]
fn manifest_is_an_indexed_job() {
    let job = job();
    check_keys(&job, &["apiVersion", "kind", "metadata", "spec"]);
    assert_eq!(
        (text(&job, "apiVersion"), text(&job, "kind")),
        ("batch/v1", "Job")
    );
    let name = text(&job["metadata"], "name");
    assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    let spec = &job["spec"];
    check_keys(
        spec,
        &[
            "activeDeadlineSeconds",
            "backoffLimit",
            "completionMode",
            "completions",
            "parallelism",
            "template",
            "ttlSecondsAfterFinished",
        ],
    );
    assert_eq!(text(spec, "completionMode"), "Indexed");
    assert_eq!(spec["backoffLimit"].as_i64(), Some(0));
    let completions = spec["completions"].as_i64().unwrap();
    assert!(completions > 1);
    assert_eq!(
        spec["parallelism"].as_i64(),
        Some(completions),
        "all start at one instant"
    );
}

#[test]
fn pods_of_the_manifest_run_once_each_on_a_node() {
    let job = job();
    let template = &job["spec"]["template"];
    check_keys(template, &["metadata", "spec"]);
    let pod = &template["spec"];
    check_keys(
        pod,
        &[
            "affinity",
            "automountServiceAccountToken",
            "containers",
            "restartPolicy",
        ],
    );
    assert_eq!(
        text(pod, "restartPolicy"),
        "Never",
        "a Job allows Never and OnFailure"
    );
    let rules =
        &pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(text(&rules[0], "topologyKey"), "kubernetes.io/hostname");
    let labels = &template["metadata"]["labels"];
    assert_eq!(
        &rules[0]["labelSelector"]["matchLabels"], labels,
        "the rule finds the pods themselves"
    );
}

#[test]
fn container_of_the_manifest_runs_hp_bench() {
    let job = job();
    let containers = job["spec"]["template"]["spec"]["containers"]
        .as_vec()
        .unwrap();
    assert_eq!(containers.len(), 1);
    let container = &containers[0];
    check_keys(
        container,
        &["args", "image", "name", "resources", "securityContext"],
    );
    assert_eq!(
        container["resources"]["requests"],
        container["resources"]["limits"]
    );
    // Every argument is text: an unquoted number would be refused by the API.
    let args: Vec<&str> = container["args"]
        .as_vec()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    let json_at = args.iter().position(|arg| *arg == "--json").unwrap();
    assert_eq!(
        args[json_at + 1],
        "-",
        "the result is what `kubectl logs` prints"
    );
    for flag in ["--start-at", "--quiet", "--progress"] {
        assert!(
            args.contains(&flag),
            "{flag}: stdout and stderr are one log"
        );
    }
    for placeholder in ["TARGET", "START"] {
        assert_eq!(args.iter().filter(|arg| **arg == placeholder).count(), 1);
    }
    let filled = args.into_iter().map(|arg| match arg {
        "TARGET" => "http://my-service:8080/",
        "START" => "1795216200",
        arg => arg,
    });
    let words = std::iter::once("hp-bench")
        .chain(filled)
        .map(OsString::from);
    let cli = hp_bench::cli::parse(words).expect("hp-bench takes these words");
    Plan::resolve(&cli, 2).expect("they make a plan");
}
