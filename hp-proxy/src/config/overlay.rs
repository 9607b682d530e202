//! Changes that operators make while the proxy runs, over what its file says. Pure: a file's plan and changes give the plan that
//! runs; nothing here resolves a name or knows who asked.
//!
//! ```text
//! file ─► plan of the file ─┬─► plan that runs
//!              changes ─────┘
//! ```
//!
//! A reload begins with the new file's plan. Of the changes those stay that were made to be kept, and that still have a place there.

use super::plan::{Action, Endpoint, Plan};
use crate::upstream::balance::member::Standing;
use std::collections::BTreeMap;
use std::fmt;

/// One change. `E`: what is known of an endpoint that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<E = Endpoint> {
    /// An upstream gets one more endpoint.
    Add {
        /// By name.
        upstream: String,
        /// Its name is what later changes call it by.
        endpoint: E,
    },
    /// An endpoint leaves: what is in flight there is finished.
    Remove {
        /// By name.
        upstream: String,
        /// As the file names it.
        endpoint: String,
    },
    /// An endpoint gets another weight, or is drained, taken out or brought back.
    Set {
        /// By name.
        upstream: String,
        /// As the file names it.
        endpoint: String,
        /// 0 to [`WEIGHT_MAX`](crate::upstream::balance::member::WEIGHT_MAX); `None`: as it is.
        weight: Option<u32>,
        /// `None`: as it is.
        standing: Option<Standing>,
    },
    /// A route is closed for maintenance, or serves again.
    Maintain {
        /// By name.
        route: String,
        /// Whether it is closed.
        is_closed: bool,
    },
}

impl<E> Change<E> {
    /// The same, where an added endpoint is known in another form.
    ///
    /// # Errors
    /// Those of `form`.
    pub fn try_map<F, X>(self, form: impl FnOnce(E) -> Result<F, X>) -> Result<Change<F>, X> {
        Ok(match self {
            Self::Add { upstream, endpoint } => Change::Add {
                upstream,
                endpoint: form(endpoint)?,
            },
            Self::Remove { upstream, endpoint } => Change::Remove { upstream, endpoint },
            Self::Set {
                upstream,
                endpoint,
                weight,
                standing,
            } => Change::Set {
                upstream,
                endpoint,
                weight,
                standing,
            },
            Self::Maintain { route, is_closed } => Change::Maintain { route, is_closed },
        })
    }
}

impl fmt::Display for Change {
    /// What is done, in a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { upstream, endpoint } => {
                let (name, weight) = (&endpoint.name, endpoint.weight);
                write!(
                    f,
                    "upstream {upstream}: {name} is added with weight {weight}"
                )
            }
            Self::Remove { upstream, endpoint } => {
                write!(f, "upstream {upstream}: {endpoint} is removed")
            }
            Self::Set {
                upstream,
                endpoint,
                weight,
                standing,
            } => {
                write!(f, "upstream {upstream}: {endpoint}")?;
                if let Some(weight) = weight {
                    write!(f, " has weight {weight}")?;
                }
                let and = if weight.is_some() { " and" } else { "" };
                match standing {
                    None => Ok(()),
                    Some(Standing::Serving) => write!(f, "{and} is active"),
                    Some(Standing::Draining) => write!(f, "{and} drains"),
                    Some(Standing::Out) => write!(f, "{and} is out"),
                }
            }
            Self::Maintain { route, is_closed } => {
                let is = if *is_closed {
                    "closed for maintenance"
                } else {
                    "open"
                };
                write!(f, "route {route} is {is}")
            }
        }
    }
}

/// How long a change holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Until the file is read again.
    #[default]
    UntilReload,
    /// Until it is changed back, or the file has no place for it any more.
    Kept,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no upstream of this name.
    NoUpstream(String),
    /// The upstream has no such endpoint.
    NoEndpoint {
        /// By name.
        upstream: String,
        /// As it was asked for.
        endpoint: String,
    },
    /// There is no route of this name.
    NoRoute(String),
    /// The upstream has this endpoint already.
    Twice {
        /// By name.
        upstream: String,
        /// As it was asked for.
        endpoint: String,
    },
    /// The upstream would have no endpoint left.
    Last(String),
    /// Every endpoint of the upstream would have weight 0.
    Weightless(String),
    /// The file itself closes the route.
    ClosedByFile(String),
    /// There are as many changes already as there may be.
    TooMany,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUpstream(name) => write!(f, "there is no upstream {name}"),
            Self::NoEndpoint { upstream, endpoint } => {
                write!(f, "the upstream {upstream} has no endpoint {endpoint}")
            }
            Self::NoRoute(name) => write!(f, "there is no route {name}"),
            Self::Twice { upstream, endpoint } => {
                write!(f, "the upstream {upstream} has {endpoint} already")
            }
            Self::Last(upstream) => write!(
                f,
                "this is the only endpoint of {upstream}; add another one first, or take it out with standing \"out\""
            ),
            Self::Weightless(upstream) => write!(
                f,
                "every endpoint of {upstream} would have weight 0, so none would take requests; drain them instead"
            ),
            Self::ClosedByFile(route) => write!(
                f,
                "the file itself closes the route {route}; change it there and reload"
            ),
            Self::TooMany => write!(
                f,
                "{CHANGES_MAX} changes are in force, which is all there may be; write them into the file and reload"
            ),
        }
    }
}

impl std::error::Error for ChangeError {}

/// All changes in force.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// By upstream and endpoint.
    endpoints: BTreeMap<(String, String), Changed>,
    /// By route: whether it is closed.
    routes: BTreeMap<String, (bool, Held)>,
}

/// How long a change holds, and whether the reload was asked for that it may hold until.
#[derive(Clone, Copy, Debug)]
struct Held {
    hold: Hold,
    is_due: bool,
}

/// What is changed of one endpoint.
#[derive(Clone, Debug)]
struct Changed {
    presence: Presence,
    weight: Option<u32>,
    standing: Option<Standing>,
    held: Held,
}

/// Whether an endpoint is there.
#[derive(Clone, Debug)]
enum Presence {
    /// As in the file.
    OfFile,
    Added(Box<Endpoint>),
    Removed,
}

impl Overlay {
    /// Puts one more change over a file's plan.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing is changed then.
    pub fn change(&mut self, file: &Plan, change: Change, hold: Hold) -> Result<(), ChangeError> {
        let mut changed = self.clone();
        changed.put(file, change, hold)?;
        if changed.endpoints.len() + changed.routes.len() > CHANGES_MAX {
            return Err(ChangeError::TooMany);
        }
        *self = changed;
        Ok(())
    }

    /// The plan that runs.
    #[must_use]
    pub fn over(&self, file: &Plan) -> Plan {
        let mut plan = file.clone();
        for upstream in &mut plan.upstreams {
            self.apply(&upstream.name, &mut upstream.endpoints);
        }
        for route in &mut plan.routes {
            if let Some((true, _)) = self.routes.get(&route.name) {
                route.action = Action::Maintenance;
            }
        }
        plan
    }

    /// Nothing of this goes with the next reload.
    pub fn keep_all(&mut self) {
        self.endpoints
            .values_mut()
            .for_each(|changed| changed.held.hold = Hold::Kept);
        self.routes
            .values_mut()
            .for_each(|(_, held)| held.hold = Hold::Kept);
    }

    /// A reload was asked for. What is changed from now on, while the file is read, is not for it to take away.
    pub fn expect_reload(&mut self) {
        let of_endpoints = self.endpoints.values_mut().map(|changed| &mut changed.held);
        let of_routes = self.routes.values_mut().map(|(_, held)| held);
        of_endpoints
            .chain(of_routes)
            .for_each(|held| held.is_due = true);
    }

    /// The file was read again, as was asked for: what has held until then goes. Gives a line for each change that was to be kept and has no place in the
    /// new file.
    pub fn reload(&mut self, file: &Plan) -> Vec<String> {
        let mut lines = Vec::new();
        self.endpoints.retain(|(upstream, endpoint), changed| {
            if changed.held.goes() {
                return false;
            }
            let named = file.upstreams.iter().find(|one| one.name == *upstream);
            let has_place = named.is_some_and(|named| {
                let is_there = named.endpoints.iter().any(|one| one.name == *endpoint);
                matches!(changed.presence, Presence::Added(_)) || is_there
            });
            if !has_place {
                lines.push(format!(
                    "the file has no endpoint {endpoint} of upstream {upstream} any more; what was changed of it is dropped"
                ));
            }
            has_place
        });
        self.routes.retain(|route, (_, held)| {
            let has_place = file.routes.iter().any(|one| one.name == *route);
            if !held.goes() && !has_place {
                lines.push(format!(
                    "the file has no route {route} any more; its maintenance is dropped"
                ));
            }
            !held.goes() && has_place
        });
        self.drop_what_empties(file, &mut lines);
        lines
    }

    /// Whether a change of this endpoint, if there is one, outlives a reload.
    #[must_use]
    pub fn hold_of(&self, upstream: &str, endpoint: &str) -> Option<Hold> {
        let key = (upstream.to_owned(), endpoint.to_owned());
        self.endpoints.get(&key).map(|changed| changed.held.hold)
    }

    /// Removals that would leave a new file's upstream without anybody do not hold.
    fn drop_what_empties(&mut self, file: &Plan, lines: &mut Vec<String>) {
        for upstream in &file.upstreams {
            let is_changed = self.endpoints.keys().any(|(of, _)| *of == upstream.name);
            if is_changed && self.refuse_weightless(file, upstream.name.clone()).is_err() {
                lines.push(format!(
                    "what was changed of upstream {} would leave it without endpoints; it is dropped",
                    upstream.name
                ));
                self.endpoints.retain(|(of, _), _| *of != upstream.name);
            }
        }
    }

    fn put(&mut self, file: &Plan, change: Change, hold: Hold) -> Result<(), ChangeError> {
        match change {
            Change::Add { upstream, endpoint } => self.add(file, upstream, endpoint, hold),
            Change::Remove { upstream, endpoint } => self.remove(file, upstream, endpoint, hold),
            Change::Set {
                upstream,
                endpoint,
                weight,
                standing,
            } => self.set(file, (upstream, endpoint), (weight, standing), hold),
            Change::Maintain { route, is_closed } => self.maintain(file, &route, (is_closed, hold)),
        }
    }

    fn add(
        &mut self,
        file: &Plan,
        upstream: String,
        endpoint: Endpoint,
        hold: Hold,
    ) -> Result<(), ChangeError> {
        let endpoints = self.endpoints_of(file, &upstream)?;
        let is_same = |one: &Endpoint| one.name == endpoint.name || one.addr == endpoint.addr;
        if endpoints.iter().any(is_same) {
            let endpoint = endpoint.name;
            return Err(ChangeError::Twice { upstream, endpoint });
        }
        let key = (upstream, endpoint.name.clone());
        let added = Presence::Added(Box::new(endpoint));
        self.endpoints.insert(key, Changed::new(added, hold));
        Ok(())
    }

    fn remove(
        &mut self,
        file: &Plan,
        upstream: String,
        endpoint: String,
        hold: Hold,
    ) -> Result<(), ChangeError> {
        let endpoints = self.endpoints_of(file, &upstream)?;
        if !endpoints.iter().any(|one| one.name == endpoint) {
            return Err(ChangeError::NoEndpoint { upstream, endpoint });
        }
        if endpoints.len() == 1 {
            return Err(ChangeError::Last(upstream));
        }
        let of_file = file.upstreams.iter().find(|one| one.name == upstream);
        let is_of_file =
            of_file.is_some_and(|of| of.endpoints.iter().any(|one| one.name == endpoint));
        let key = (upstream.clone(), endpoint);
        if is_of_file {
            let removed = Changed::new(Presence::Removed, hold);
            self.endpoints.insert(key, removed);
        } else {
            self.endpoints.remove(&key);
        }
        self.refuse_weightless(file, upstream)
    }

    fn set(
        &mut self,
        file: &Plan,
        (upstream, endpoint): (String, String),
        (weight, standing): (Option<u32>, Option<Standing>),
        hold: Hold,
    ) -> Result<(), ChangeError> {
        let endpoints = self.endpoints_of(file, &upstream)?;
        if !endpoints.iter().any(|one| one.name == endpoint) {
            return Err(ChangeError::NoEndpoint { upstream, endpoint });
        }
        let key = (upstream.clone(), endpoint);
        let of_file = || Changed::new(Presence::OfFile, hold);
        let changed = self.endpoints.entry(key).or_insert_with(of_file);
        changed.weight = weight.or(changed.weight);
        changed.standing = standing.or(changed.standing);
        changed.held = Held::from(hold);
        self.refuse_weightless(file, upstream)
    }

    fn maintain(
        &mut self,
        file: &Plan,
        route: &str,
        (is_closed, hold): (bool, Hold),
    ) -> Result<(), ChangeError> {
        let named = file.routes.iter().find(|one| one.name == route);
        let named = named.ok_or_else(|| ChangeError::NoRoute(route.to_owned()))?;
        if is_closed {
            self.routes.insert(route.to_owned(), (true, hold.into()));
        } else if named.action == Action::Maintenance {
            return Err(ChangeError::ClosedByFile(route.to_owned()));
        } else {
            self.routes.remove(route);
        }
        Ok(())
    }

    fn refuse_weightless(&self, file: &Plan, upstream: String) -> Result<(), ChangeError> {
        let endpoints = self.endpoints_of(file, &upstream)?;
        if endpoints.iter().any(|endpoint| endpoint.weight > 0) {
            Ok(())
        } else {
            Err(ChangeError::Weightless(upstream))
        }
    }

    /// The endpoints that an upstream has with all changes.
    fn endpoints_of(&self, file: &Plan, upstream: &str) -> Result<Vec<Endpoint>, ChangeError> {
        let named = file.upstreams.iter().find(|one| one.name == upstream);
        let named = named.ok_or_else(|| ChangeError::NoUpstream(upstream.to_owned()))?;
        let mut endpoints = named.endpoints.clone();
        self.apply(upstream, &mut endpoints);
        Ok(endpoints)
    }

    fn apply(&self, upstream: &str, endpoints: &mut Vec<Endpoint>) {
        let of_upstream = self.endpoints.iter().filter(|((of, _), _)| of == upstream);
        for ((_, endpoint), changed) in of_upstream {
            changed.apply(endpoints, endpoint);
        }
    }
}

impl From<Hold> for Held {
    /// Of a change that is made now.
    fn from(hold: Hold) -> Self {
        Self {
            hold,
            is_due: false,
        }
    }
}

impl Held {
    /// Whether a reload takes it away.
    fn goes(self) -> bool {
        self.hold == Hold::UntilReload && self.is_due
    }
}

impl Changed {
    fn new(presence: Presence, hold: Hold) -> Self {
        Self {
            presence,
            weight: None,
            standing: None,
            held: hold.into(),
        }
    }

    fn apply(&self, endpoints: &mut Vec<Endpoint>, name: &str) {
        match &self.presence {
            Presence::OfFile => (),
            // A file that was read since may have it, under this name or another.
            Presence::Added(added) => {
                let is_elsewhere = endpoints.iter().any(|one| one.addr == added.addr);
                match endpoints.iter_mut().find(|one| one.name == name) {
                    Some(one) => *one = Endpoint::clone(added),
                    None if is_elsewhere => (),
                    None => endpoints.push(Endpoint::clone(added)),
                }
            }
            Presence::Removed => endpoints.retain(|one| one.name != name),
        }
        for endpoint in endpoints.iter_mut().filter(|one| one.name == name) {
            endpoint.weight = self.weight.unwrap_or(endpoint.weight);
            endpoint.standing = self.standing.unwrap_or(endpoint.standing);
        }
    }
}

/// Changes in force at once.
const CHANGES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    fn file(upstreams: &str) -> Plan {
        let text = format!(
            "workers = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\nupstream = \"web\"\n\
             [[route]]\nname = \"closed\"\npath = \"/x\"\nmaintenance = true\n{upstreams}"
        );
        load_text("a.toml", &text, &|_| None).0.unwrap()
    }

    fn two() -> Plan {
        file(
            "[upstream.web]\nendpoints = [\"127.0.0.1:1\", { address = \"127.0.0.1:2\", weight = 3 }]\n",
        )
    }

    fn endpoint(name: &str) -> Endpoint {
        Endpoint::new(
            name.to_owned(),
            crate::config::address::resolve(name).unwrap(),
        )
    }

    fn add(name: &str) -> Change {
        Change::Add {
            upstream: String::from("web"),
            endpoint: endpoint(name),
        }
    }

    fn remove(name: &str) -> Change {
        Change::Remove {
            upstream: String::from("web"),
            endpoint: name.to_owned(),
        }
    }

    fn set(name: &str, weight: Option<u32>, standing: Option<Standing>) -> Change {
        Change::Set {
            upstream: String::from("web"),
            endpoint: name.to_owned(),
            weight,
            standing,
        }
    }

    fn maintain(route: &str, is_closed: bool) -> Change {
        Change::Maintain {
            route: route.to_owned(),
            is_closed,
        }
    }

    /// Names, weights and standings.
    fn shown(overlay: &Overlay, file: &Plan) -> Vec<(String, u32, Standing)> {
        let plan = overlay.over(file);
        let endpoints = plan.upstreams[0].endpoints.iter();
        endpoints
            .map(|one| (one.name.clone(), one.weight, one.standing))
            .collect()
    }

    #[test]
    fn changes_lie_over_the_file() {
        let (file, mut overlay) = (two(), Overlay::default());
        for change in [
            add("127.0.0.1:3"),
            set("127.0.0.1:3", Some(7), None),
            set("127.0.0.1:2", None, Some(Standing::Draining)),
            set("127.0.0.1:2", Some(0), None),
            remove("127.0.0.1:1"),
            maintain("all", true),
        ] {
            overlay.change(&file, change, Hold::UntilReload).unwrap();
        }
        assert_eq!(
            shown(&overlay, &file),
            [
                (String::from("127.0.0.1:2"), 0, Standing::Draining),
                (String::from("127.0.0.1:3"), 7, Standing::Serving),
            ]
        );
        assert_eq!(overlay.over(&file).routes[0].action, Action::Maintenance);
        for change in [
            add("127.0.0.1:1"),
            maintain("all", false),
            set("127.0.0.1:2", Some(3), Some(Standing::Serving)),
            remove("127.0.0.1:3"),
        ] {
            overlay.change(&file, change, Hold::UntilReload).unwrap();
        }
        let back = overlay.over(&file);
        assert_eq!(back.routes, file.routes);
        assert_eq!(shown(&overlay, &file).len(), 2);
    }

    #[test]
    fn what_cannot_be_changed_is_told_and_changes_nothing() {
        let file = two();
        let mut overlay = Overlay::default();
        let rows = [
            (
                add("127.0.0.1:1"),
                "the upstream web has 127.0.0.1:1 already",
            ),
            (
                remove("127.0.0.1:9"),
                "the upstream web has no endpoint 127.0.0.1:9",
            ),
            (
                set("127.0.0.1:9", Some(1), None),
                "the upstream web has no endpoint 127.0.0.1:9",
            ),
            (maintain("nothing", true), "there is no route nothing"),
            (
                maintain("closed", false),
                "the file itself closes the route closed; change it there and reload",
            ),
            (
                Change::Remove {
                    upstream: String::from("api"),
                    endpoint: String::from("a"),
                },
                "there is no upstream api",
            ),
        ];
        for (change, expected) in rows {
            let error = overlay.change(&file, change, Hold::Kept).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        overlay
            .change(&file, remove("127.0.0.1:1"), Hold::Kept)
            .unwrap();
        let before = shown(&overlay, &file);
        let last = overlay.change(&file, remove("127.0.0.1:2"), Hold::Kept);
        assert_eq!(last, Err(ChangeError::Last(String::from("web"))));
        let weightless = overlay.change(&file, set("127.0.0.1:2", Some(0), None), Hold::Kept);
        assert_eq!(
            weightless,
            Err(ChangeError::Weightless(String::from("web")))
        );
        assert_eq!(shown(&overlay, &file), before);
    }

    #[test]
    fn a_reload_drops_what_was_not_to_be_kept_and_what_has_no_place() {
        let (old, mut overlay) = (two(), Overlay::default());
        let kept = [
            add("127.0.0.1:3"),
            set("127.0.0.1:1", Some(9), None),
            set("127.0.0.1:2", None, Some(Standing::Out)),
            maintain("all", true),
        ];
        for change in kept {
            overlay.change(&old, change, Hold::Kept).unwrap();
        }
        overlay
            .change(&old, add("127.0.0.1:4"), Hold::UntilReload)
            .unwrap();
        overlay.expect_reload();
        let new = file("[upstream.web]\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:5\"]\n");
        let lines = overlay.reload(&new);
        assert_eq!(
            lines,
            [
                "the file has no endpoint 127.0.0.1:2 of upstream web any more; what was changed of it is dropped"
            ]
        );
        let names: Vec<String> = shown(&overlay, &new)
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names, ["127.0.0.1:1", "127.0.0.1:5", "127.0.0.1:3"]);
        assert_eq!(shown(&overlay, &new)[0].1, 9);
        assert_eq!(overlay.over(&new).routes[0].action, Action::Maintenance);
        assert_eq!(overlay.hold_of("web", "127.0.0.1:1"), Some(Hold::Kept));
        assert_eq!(overlay.hold_of("web", "127.0.0.1:2"), None);
    }

    #[test]
    fn what_is_changed_while_the_file_is_read_holds_until_the_next_reload() {
        let (file, mut overlay) = (two(), Overlay::default());
        let change = |overlay: &mut Overlay, change: Change| {
            overlay.change(&file, change, Hold::UntilReload).unwrap();
        };
        change(&mut overlay, add("127.0.0.1:3"));
        change(&mut overlay, maintain("all", true));
        overlay.expect_reload();
        change(&mut overlay, add("127.0.0.1:4"));
        change(&mut overlay, set("127.0.0.1:1", Some(9), None));
        assert_eq!(overlay.reload(&file), Vec::<String>::new());
        let names = |overlay: &Overlay| -> Vec<String> {
            let all = shown(overlay, &file).into_iter();
            all.map(|(name, ..)| name).collect()
        };
        assert_eq!(
            names(&overlay),
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:4"]
        );
        assert_eq!(shown(&overlay, &file)[0].1, 9);
        assert_eq!(overlay.over(&file).routes[0].action, file.routes[0].action);
        overlay.expect_reload();
        assert_eq!(overlay.reload(&file), Vec::<String>::new());
        assert_eq!(shown(&overlay, &file), shown(&Overlay::default(), &file));
    }

    #[test]
    fn kept_removals_never_leave_a_new_file_without_endpoints() {
        let (old, mut overlay) = (two(), Overlay::default());
        overlay
            .change(&old, remove("127.0.0.1:1"), Hold::Kept)
            .unwrap();
        let new = file("[upstream.web]\nendpoints = [\"127.0.0.1:1\"]\n");
        let lines = overlay.reload(&new);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(shown(&overlay, &new).len(), 1);
    }

    #[test]
    fn an_endpoint_that_the_file_has_by_now_is_not_added_twice() {
        let (old, mut overlay) = (two(), Overlay::default());
        overlay
            .change(&old, add("127.0.0.1:3"), Hold::Kept)
            .unwrap();
        let new = file("[upstream.web]\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:3\"]\n");
        assert_eq!(overlay.reload(&new), Vec::<String>::new());
        assert_eq!(shown(&overlay, &new).len(), 2);
    }

    #[test]
    fn changes_are_bounded() {
        let (file, mut overlay) = (two(), Overlay::default());
        for index in 0..CHANGES_MAX {
            overlay
                .routes
                .insert(index.to_string(), (true, Hold::Kept.into()));
        }
        let one_more = overlay.change(&file, add("127.0.0.1:3"), Hold::Kept);
        assert_eq!(one_more, Err(ChangeError::TooMany));
    }
}
