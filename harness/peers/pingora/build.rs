//! Tells the program which versions it is made of, from its lock file.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("the lock file lies beside the manifest");
    for (variable, package) in [("PINGORA", "pingora"), ("TOKIO", "tokio")] {
        let entry = format!("name = \"{package}\"\nversion = \"");
        let version = lock.split(&entry).nth(1).and_then(|rest| rest.split('"').next());
        println!("cargo::rustc-env={variable}={}", version.expect("the lock file names the package"));
    }
}
