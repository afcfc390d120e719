//! The gateway that checks passwords, faked.

use super::{FakeStore, PASSWORD};
use domain::Secret;
use proto::directory::password_check_server::PasswordCheck;
use proto::directory::{CheckReply, CheckRequest, Person, ProbeReply, ProbeRequest, ResolveReply, ResolveRequest};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tonic::{Request, Response, Status};

pub struct FakeDirectory {
    store: Arc<FakeStore>,
    /// How often a password was checked: each is a bind.
    pub checks: AtomicUsize,
    /// The code that the next call fails with.
    pub fail_next: Mutex<Option<tonic::Code>>,
    /// The reason that right passwords are refused with.
    pub refuse_with: Mutex<Option<&'static str>>,
}

impl FakeDirectory {
    pub fn new(store: Arc<FakeStore>) -> Self {
        Self { store, checks: AtomicUsize::new(0), fail_next: Mutex::default(), refuse_with: Mutex::default() }
    }

    pub fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }
}

#[tonic::async_trait]
impl PasswordCheck for FakeDirectory {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        if let Some(code) = self.fail_next.lock().expect("a lock").take() {
            return Err(Status::new(code, "10.0.0.7 said no"));
        }
        let request = request.into_inner();
        let refused = |reason: &str, person| Ok(Response::new(CheckReply { reason: reason.to_owned(), person }));
        // "stranger" is in the directory and not in the store.
        let subject = match self.store.user(&request.name) {
            Some(user) => user.subject(),
            None if request.name == "stranger" => super::store::subject_of("stranger"),
            None => return refused("unknown_user", None),
        };
        let person = Some(Person {
            subject: Some(subject),
            username: request.name.clone(),
            distinguished_name: format!("uid={},ou=people,dc=example", request.name),
            name_form: "bare".into(),
        });
        let password = Secret::from(request.password.unwrap_or_default());
        if password.expose() != PASSWORD.as_bytes() {
            return refused("bad_password", person);
        }
        match *self.refuse_with.lock().expect("a lock") {
            Some(reason) => refused(reason, person),
            None => Ok(Response::new(CheckReply { reason: String::new(), person })),
        }
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveReply>, Status> {
        let request = request.into_inner();
        assert_eq!(request.directory, "corp", "the application's own directory");
        let person = self.store.user(&request.name).map(|user| Person {
            subject: Some(user.subject()),
            username: request.name.clone(),
            ..Person::default()
        });
        let reason = if person.is_some() { String::new() } else { "unknown_user".into() };
        Ok(Response::new(ResolveReply { reason, person }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Err(Status::permission_denied("the portal has no use for it"))
    }
}
