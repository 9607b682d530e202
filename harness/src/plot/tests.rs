use super::file_name;

#[test]
fn names_of_plots_are_plain_and_their_own() {
    let taken = ["a-b".to_owned()];
    let is_taken = |name: &str| taken.iter().any(|other| other == name);
    assert_eq!(file_name("../A b", is_taken), "---a-b");
    assert_eq!(file_name("A/b", is_taken), "a-b-2");
    assert_eq!(file_name(&"x".repeat(500), is_taken).len(), 60);
}
