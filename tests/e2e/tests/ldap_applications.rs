//! Applications that speak LDAP, the real ones, before `twinlock serve`, with the settings of their pages in docs/integrations/: sssd and nslcd
//! behind PAM, Apache httpd and nginx before it, Dovecot and Postfix behind it, on a host of their own (`lab::Host`), which takes root; and
//! the sequences of others by what these speak LDAP with: Gitea and Grafana by go-ldap, Jenkins by Java, GitLab's by ldap3.
//!
//! ```text
//! application ──> door, at the address the page gives its client ──> twinlock serve ──> slapd
//! ```

#[path = "ldap_applications/rules.rs"]
mod rules;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use e2e::{OneMachine, Outside, Secrets, attempt_ended, last_attempt, story};
use lab::{COMPANY_BASE, Host, Person, Proc, Slapd, free_port, password_of, program, repository, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, spawn_blocking},
};

const PAGES: [&str; 7] = ["sssd", "nslcd", "apache-httpd", "dovecot-postfix", "bind-search-bind", "grafana", "jenkins"];
/// Longer than any of them waits unless it is told to: ten seconds, at most.
const LONG_RING: Duration = Duration::from_secs(11);
const SOON: Duration = Duration::from_secs(60);
const PHONE: &str = "+493023125018";

/// Stopped in the order of its fields.
struct World {
    programs: Vec<Proc>,
    host: Host,
    doors: Vec<Door>,
    http: Ports,
    mail: u16,
    machine: OneMachine,
    outside: Outside,
    /// Signs in as Gitea and Grafana do.
    of_go: PathBuf,
}

struct Ports {
    httpd: u16,
    nginx: u16,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applications_ask_by_ldap() -> Result<()> {
    let mut world = World::start().await?;
    story!(&mut world;
        sssd_looks_people_up_and_opens_with_the_code_behind_the_password,
        nslcd_looks_people_up_and_opens_with_the_code_behind_the_password,
        a_web_server_asks_once_for_many_requests_and_again_after_another_password,
        a_browser_that_repeats_a_code_is_asked_for_the_password_alone,
        nginx_asks_by_the_web_server_behind_it,
        dovecot_and_postfix_open_with_the_code_behind_the_password,
        forges_bind_search_and_bind_and_are_nobody_after_a_no,
        everybody_waits_while_phones_ring_and_nobody_holds_up_another,
        no_password_was_written_down,
    )
}

async fn no_password_was_written_down(world: &mut World) -> Result<()> {
    // T-09
    let mut secrets = Secrets::default();
    for uid in [
        "ann.archer",
        "ben.hale",
        "clara.osborn",
        "david.baker",
        "emma.irwin",
        "greta.cole",
        "karla.keller",
        "ida.reed",
        "jonas.dyer",
        "paul.fisher",
        "quinn.mason",
    ] {
        secrets.add(uid, password_of(uid).as_bytes());
    }
    secrets.add("the service account", Slapd::GITLAB_PASSWORD.as_bytes());
    secrets.were_not_written_by(&world.machine.twinlock)
}

async fn sssd_looks_people_up_and_opens_with_the_code_behind_the_password(world: &mut World) -> Result<()> {
    // L-20, L-22, L-50
    let ann = world.enrol("ann.archer")?;
    world.opens_by_pam("sssd", &ann).await
}

async fn nslcd_looks_people_up_and_opens_with_the_code_behind_the_password(world: &mut World) -> Result<()> {
    // The same, and L-30: the person's own search on the connection of the person's bind.
    let ben = world.enrol("ben.hale")?;
    world.opens_by_pam("nslcd", &ben).await
}

async fn a_web_server_asks_once_for_many_requests_and_again_after_another_password(world: &mut World) -> Result<()> {
    // V-50, V-52
    let uid = "clara.osborn";
    world.rings(uid)?;
    let password = password_of(uid);
    let nobody = world.asks(world.http.httpd).await?;
    ensure!(nobody == (401, r#"Basic realm="Intranet""#.to_owned()), "{nobody:?}");
    let first = world.request(world.http.httpd, uid, &password);
    world.confirm_call().await;
    ensure!(first.await?? == 200);
    world.ended(uid, "call_confirmed", "call")?;
    let binds = world.machine.slapd.binds(uid);
    for _ in 0..5 {
        ensure!(world.request(world.http.httpd, uid, &password).await?? == 200, "not remembered");
    }
    ensure!(world.last(uid)?.0 == "remembered", "{:?}", world.last(uid)?);
    ensure!(world.machine.slapd.binds(uid) == binds + 5, "the password was not asked of the directory each time");
    ensure!(world.outside.vendor.is_quiet().await, "the phone rang again");
    ensure!(world.request(world.http.httpd, uid, "Nonsense").await?? == 401, "a wrong password");

    // The old password counts no more, and the new one asks.
    world.machine.slapd.modify(&format!(
        "dn: uid={uid},ou=finance,ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: userPassword\nuserPassword: Another-1\n"
    ))?;
    ensure!(world.request(world.http.httpd, uid, &password).await?? == 401, "the old password");
    let again = world.request(world.http.httpd, uid, "Another-1");
    world.confirm_call().await;
    ensure!(again.await?? == 200);
    world.ended(uid, "call_confirmed", "call")
}

async fn a_browser_that_repeats_a_code_is_asked_for_the_password_alone(world: &mut World) -> Result<()> {
    // V-11, V-50
    let david = world.enrol("david.baker")?;
    let typed = david.appended(0)?;
    ensure!(world.request(world.http.httpd, &david.uid, &typed).await?? == 200);
    ensure!(world.request(world.http.httpd, &david.uid, &typed).await?? == 401, "a code counted twice");
    ensure!(world.request(world.http.httpd, &david.uid, &david.password).await?? == 200, "not remembered");
    ensure!(world.last(&david.uid)?.0 == "remembered");
    world.machine.command_line().run(&["remember", "clear", &david.uid, "--yes"])?;
    ensure!(world.request(world.http.httpd, &david.uid, &david.password).await?? == 401, "cleared");
    world.ended(&david.uid, "method_impossible", "")
}

async fn nginx_asks_by_the_web_server_behind_it(world: &mut World) -> Result<()> {
    let emma = world.enrol("emma.irwin")?;
    let nobody = world.asks(world.http.nginx).await?;
    ensure!(nobody == (401, r#"Basic realm="Intranet""#.to_owned()), "{nobody:?}");
    let wrong = format!("{},{}", emma.password, emma.wrong_code()?);
    ensure!(world.request(world.http.nginx, &emma.uid, &wrong).await?? == 401, "a wrong code");
    ensure!(world.request(world.http.nginx, &emma.uid, &emma.appended(0)?).await?? == 200);
    ensure!(world.request(world.http.nginx, &emma.uid, &emma.password).await?? == 200, "not remembered");
    Ok(())
}

async fn dovecot_and_postfix_open_with_the_code_behind_the_password(world: &mut World) -> Result<()> {
    let greta = world.enrol("greta.cole")?;
    let wrong = format!("{},{}", greta.password, greta.wrong_code()?);
    ensure!(!world.dovecot(&greta.uid, &wrong).await??, "a wrong code");
    ensure!(world.dovecot(&greta.uid, &greta.appended(0)?).await??);
    world.ended(&greta.uid, "valid_code", "code")?;
    ensure!(world.dovecot(&greta.uid, &greta.password).await??, "not remembered");
    let hugo = world.enrol("hugo.jones")?;
    let used = hugo.appended(0)?;
    ensure!(world.postfix(&hugo.uid, &used).await?.starts_with("235 "));
    ensure!(world.postfix(&hugo.uid, &used).await?.starts_with("535 "), "a code counted twice");
    ensure!(world.postfix(&hugo.uid, &hugo.password).await?.starts_with("235 "), "not remembered");
    Ok(())
}

async fn forges_bind_search_and_bind_and_are_nobody_after_a_no(world: &mut World) -> Result<()> {
    // L-22, L-32, FL-19. What each hears at each step, where the code is wrong: Gitea goes on searching on the connection.
    for (product, client, uid, refused_at) in [
        ("gitlab", "forge", "ida.reed", json!([0, 0, 0, 0, 49])),
        ("gitea", "forge", "jonas.dyer", json!([0, 0, 49, 50])),
        ("grafana", "grafana", "paul.fisher", json!([0, 0, 49])),
        ("jenkins", "jenkins", "quinn.mason", json!([0, 49])),
    ] {
        let person = world.enrol(uid)?;
        let wrong = format!("{},{}", person.password, person.wrong_code()?);
        let refused = world.signs_in(product, uid, &wrong)?.await??;
        ensure!(refused == json!({ "in": false, "steps": refused_at }), "{product}: {refused}");
        let right = world.signs_in(product, uid, &person.appended(0)?)?.await??;
        let steps = right["steps"].as_array().context("steps")?;
        ensure!(right["in"] == json!(true) && steps.iter().all(|code| *code == json!(0)), "{product}: {right}");
        world.ended(uid, "valid_code", "code")?;
        let events = world.machine.command_line().audit()?;
        ensure!(
            events.iter().any(|event| event["reason"] == "service_account" && event["client"] == client),
            "{product}"
        );
    }
    Ok(())
}

async fn everybody_waits_while_phones_ring_and_nobody_holds_up_another(world: &mut World) -> Result<()> {
    // FL-09: the times of the pages are long enough, and those of the programs alone would not be.
    let people = ["karla.keller", "leo.stone", "mia.eaton", "noah.lang", "olga.turner"];
    for uid in people {
        world.rings(uid)?;
    }
    world.account("karla.keller", "finance", 20_011)?;
    world.account("leo.stone", "support", 20_012)?;
    let waiting = [
        world.pam("sssd", people[0], &password_of(people[0])),
        world.pam("nslcd", people[1], &password_of(people[1])),
        world.dovecot(people[2], &password_of(people[2])),
    ];
    let request = world.request(world.http.nginx, people[3], &password_of(people[3]));
    let mut phones = Vec::new();
    for _ in 0..4 {
        phones.push(world.outside.vendor.next_call(world.outside.deliver()).await);
    }
    // One who rings holds up nobody who has a code.
    let rosa = world.enrol("rosa.vance")?;
    ensure!(world.dovecot(&rosa.uid, &rosa.appended(0)?).await??, "somebody else waits for the phone");
    // Postfix does not wait: what the person confirms later is remembered.
    let password = password_of(people[4]);
    let (mail, ()) = tokio::join!(world.postfix(people[4], &password), async {
        phones.push(world.outside.vendor.next_call(world.outside.deliver()).await);
        tokio::time::sleep(LONG_RING).await;
        for phone in &mut phones {
            phone.answer("human").await;
            phone.press("#").await;
        }
    });
    ensure!(mail?.starts_with("454 "), "Postfix waited");
    for login in waiting {
        ensure!(login.await??, "it did not wait");
    }
    ensure!(request.await?? == 200, "nginx did not wait");
    for uid in people {
        world.ended(uid, "call_confirmed", "call")?;
    }
    Ok(())
}

impl World {
    async fn start() -> Result<Self> {
        let machine = OneMachine::start(0, "", "", &[])?;
        let outside = Outside::start(&machine).await?;
        let mut settings = format!("[verification]\ncountry = \"DE\"\n{}", outside.providers());
        let mut doors = Vec::new();
        for page in PAGES {
            let client = block(page, "## In Twinlock")?;
            let (at, client) = ours(&client)?;
            doors.push(Door::open(at, machine.twinlock.ldaps_url()).await?);
            settings += &format!("\n{client}\n");
        }
        machine.settings(&settings).await?;
        let host = Host::start(machine.dir.path())?;
        let http = Ports { httpd: free_port(), nginx: free_port() };
        let of_go = built_by_go(machine.dir.path())?;
        let mut world = Self { programs: Vec::new(), host, doors, http, mail: free_port(), machine, outside, of_go };
        world.programs = world.install()?;
        Ok(world)
    }

    /// Writes the files of the pages, and starts what they configure.
    fn install(&self) -> Result<Vec<Proc>> {
        let host = &self.host;
        host.write("/etc/sssd/sssd.conf", &self.file("sssd", "/etc/sssd/sssd.conf")?)?;
        host.write("/etc/pam.d/sssd", &block("sssd", "/etc/pam.d/sshd")?)?;
        host.write("/etc/nslcd.conf", &self.file("nslcd", "/etc/nslcd.conf")?.replace(" nslcd\n", " root\n"))?;
        host.write("/etc/pam.d/nslcd", &block("nslcd", "/etc/pam.d/sshd")?)?;
        let names = host.read("/etc/nsswitch.conf")?;
        let others = names.lines().filter(|line| !line.starts_with("passwd:")).collect::<Vec<_>>().join("\n");
        host.write("/etc/nsswitch.conf", &format!("passwd: files sss ldap\n{others}\n"))?;

        let httpd = self.file("apache-httpd", "/etc/apache2/conf-enabled/mfa.conf")?;
        host.write("/etc/apache2/httpd.conf", &httpd_conf(self.http.httpd, &httpd))?;
        host.write("/srv/www/index.html", "for members only\n")?;
        run(host.command("chmod").args(["-R", "a+rX", "/srv/www"]))?;
        let nginx = block("nginx", "/etc/nginx/conf.d/intranet.conf")?;
        let nginx = nginx.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.http.nginx));
        let nginx = nginx.replace("127.0.0.1:8081", &format!("127.0.0.1:{}", self.http.httpd));
        host.write("/etc/nginx/nginx.conf", &format!("pid /run/nginx.pid;\nevents {{}}\nhttp {{\n{nginx}\n}}\n"))?;

        let page = "dovecot-postfix";
        host.write("/etc/dovecot/dovecot-ldap.conf.ext", &self.file(page, "/etc/dovecot/dovecot-ldap.conf.ext")?)?;
        host.write("/etc/dovecot/dovecot.conf", &format!("{DOVECOT}{}", block(page, "conf.d/auth-ldap.conf.ext")?))?;
        host.write("/etc/postfix/main.cf", &format!("{POSTFIX}{}", block(page, "/etc/postfix/main.cf")?))?;
        host.write("/etc/postfix/master.cf", &POSTFIX_SERVICES.replace("PORT", &self.mail.to_string()))?;
        let accounts = "echo 'postfix:x:911:911::/var/spool/postfix:/usr/sbin/nologin' >>/etc/passwd && \
             printf 'postfix:x:911:\\npostdrop:x:912:\\n' >>/etc/group && chown postfix /var/lib/postfix && \
             chmod a+r /etc/postfix/*.cf && postfix check; mkdir -p /run/nslcd /etc/apache2";
        host.command("sh").args(["-c", accounts]).output()?;

        let programs = vec![
            host.spawn("sssd", "sssd", &["-i", "--logger=stderr"])?,
            host.spawn("nslcd", "nslcd", &["-n"])?,
            host.spawn("httpd", "apache2", &["-X", "-f", "/etc/apache2/httpd.conf"])?,
            host.spawn("nginx", "nginx", &["-g", "daemon off;"])?,
            host.spawn("dovecot", "dovecot", &["-F"])?,
            host.spawn("postfix", "/usr/lib/postfix/sbin/master", &["-d"])?,
        ];
        for port in [self.http.httpd, self.http.nginx, self.mail] {
            let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            wait_until("a server of the host", SOON, listens).with_context(|| logs(&programs))?;
        }
        for socket in
            ["/var/lib/sss/pipes/nss", "/var/lib/sss/pipes/pam", "/run/nslcd/socket", "/run/dovecot/auth-client"]
        {
            wait_until(socket, SOON, || host.path(socket).exists()).with_context(|| logs(&programs))?;
        }
        Ok(programs)
    }

    /// A block of a page, with this company's names in the place of the page's.
    fn file(&self, page: &str, name: &str) -> Result<String> {
        let certificate = self.machine.twinlock.certificate_file();
        let door = format!("ldaps://127.0.0.1:{}", self.door(page)?.port);
        let text = block(page, name)?.replace("/etc/ssl/certs/mfa.pem", &certificate.to_string_lossy());
        Ok(company(&text).replace("ldaps://mfa.example.com", &door).replace("THE-PASSWORD", Slapd::GITLAB_PASSWORD))
    }

    fn door(&self, page: &str) -> Result<&Door> {
        self.doors.iter().zip(PAGES).find(|(_, of)| *of == page).map(|(door, _)| door).context("a door")
    }

    /// An authenticator app and nothing else: the directory knows a number of everybody.
    fn enrol(&self, uid: &str) -> Result<Person> {
        let person = self.machine.command_line().enrol(uid)?;
        self.machine.command_line().run(&["user", "edit", uid, "--allowed-methods", "code"])?;
        Ok(person)
    }

    /// Their phone is called.
    fn rings(&self, uid: &str) -> Result<()> {
        self.machine.command_line().run(&["user", "edit", uid, "--phone", PHONE, "--default-method", "call"])?;
        Ok(())
    }

    async fn confirm_call(&self) {
        let mut phone = self.outside.vendor.next_call(self.outside.deliver()).await;
        phone.answer("human").await;
        phone.press("#").await;
    }

    /// Makes somebody an account of Linux hosts.
    fn account(&self, uid: &str, department: &str, number: u32) -> Result<()> {
        self.machine.slapd.modify(&format!(
            "dn: uid={uid},ou={department},ou=people,{COMPANY_BASE}\nchangetype: modify\nadd: objectClass\nobjectClass: posixAccount\n-\n\
             add: uidNumber\nuidNumber: {number}\n-\nadd: gidNumber\ngidNumber: {number}\n-\nadd: homeDirectory\nhomeDirectory: /home/{uid}\n"
        ))
    }

    async fn opens_by_pam(&self, service: &str, person: &Person) -> Result<()> {
        let (department, number) = if service == "sssd" { ("engineering", 20_001) } else { ("sales", 20_002) };
        self.account(&person.uid, department, number)?;
        let names = if service == "sssd" { "sss" } else { "ldap" };
        let known = run(self.host.command("getent").args(["-s", names, "passwd", &person.uid]))?;
        ensure!(known.contains(&format!(":{number}:{number}:")), "{known}");
        let wrong = format!("{},{}", person.password, person.wrong_code()?);
        ensure!(!self.pam(service, &person.uid, &wrong).await??, "a wrong code");
        ensure!(!self.pam(service, &person.uid, "Nonsense").await??, "a wrong password");
        let binds = self.machine.slapd.binds(&person.uid);
        ensure!(self.pam(service, &person.uid, &person.appended(0)?).await??, "{}", logs(&self.programs));
        ensure!(self.machine.slapd.binds(&person.uid) == binds + 1);
        self.ended(&person.uid, "valid_code", "code")
    }

    /// A login by PAM.
    fn pam(&self, service: &str, uid: &str, password: &str) -> JoinHandle<Result<bool>> {
        let mut command = self.host.command("pamtester");
        command.args([service, uid, "authenticate"]);
        succeeds(command, password)
    }

    /// A login by Dovecot.
    fn dovecot(&self, uid: &str, password: &str) -> JoinHandle<Result<bool>> {
        let mut command = self.host.command("doveadm");
        command.args(["auth", "test", uid]);
        succeeds(command, password)
    }

    /// What Postfix answers to AUTH PLAIN.
    async fn postfix(&self, uid: &str, password: &str) -> Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.mail)).await?);
        let plain = BASE64.encode(format!("\0{uid}\0{password}").as_bytes());
        let mut last = String::new();
        for line in ["", "EHLO program.acme.example\r\n", &format!("AUTH PLAIN {plain}\r\n")] {
            stream.write_all(line.as_bytes()).await?;
            loop {
                last.clear();
                ensure!(stream.read_line(&mut last).await? > 0, "Postfix hung up");
                if last.as_bytes().get(3) == Some(&b' ') {
                    break;
                }
            }
        }
        Ok(last)
    }

    /// The status of a request with name and password.
    fn request(&self, port: u16, uid: &str, password: &str) -> JoinHandle<Result<u16>> {
        let request =
            self.outside.http.get(format!("http://127.0.0.1:{port}/index.html")).basic_auth(uid, Some(password));
        tokio::spawn(async move { Ok(request.send().await?.status().as_u16()) })
    }

    /// Status, and what is wanted of whoever asks without a name.
    async fn asks(&self, port: u16) -> Result<(u16, String)> {
        let answer = self.outside.http.get(format!("http://127.0.0.1:{port}/")).send().await?;
        let wants = answer.headers().get("www-authenticate").map_or("", |value| value.to_str().unwrap_or_default());
        Ok((answer.status().as_u16(), wants.to_owned()))
    }

    /// A sign-in as one of the forges does it.
    /// What became of a sign-in at an application that binds, searches and binds again.
    fn signs_in(&self, product: &str, uid: &str, password: &str) -> Result<JoinHandle<Result<Value>>> {
        let page = if ["grafana", "jenkins"].contains(&product) { product } else { "bind-search-bind" };
        let given = json!({
            "as": product,
            "port": self.door(page)?.port,
            "ca": self.machine.twinlock.certificate_file(),
            "base": format!("ou=people,{COMPANY_BASE}"),
            "groups": format!("ou=groups,{COMPANY_BASE}"),
            "account": Slapd::GITLAB_DN,
            "account_password": Slapd::GITLAB_PASSWORD,
            "uid": uid,
            "password": password,
        });
        let source = |name: &str| repository().join("tests/e2e/tests/ldap_applications").join(name);
        let (mut command, mut input) = (Command::new(&self.of_go), given.to_string());
        match product {
            "gitlab" => {
                command = Command::new(program("python3")?);
                command.arg(source("bind_search_bind.py"));
            }
            "jenkins" => {
                command = Command::new(program("java")?);
                command.arg(source("BindSearchBind.java"));
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let lines = given.as_object().context("an object")?.iter();
                input = lines.map(|(name, value)| format!("{name}={}\n", text(value))).collect();
            }
            _ => {}
        }
        Ok(spawn_blocking(move || {
            let output = fed(command, &input)?;
            serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
        }))
    }

    fn last(&self, uid: &str) -> Result<(String, String)> {
        last_attempt(self.machine.command_line(), uid)
    }

    fn ended(&self, uid: &str, reason: &str, method: &str) -> Result<()> {
        attempt_ended(self.machine.command_line(), uid, reason, method)
    }
}

/// Takes connections on loopback and carries each to Twinlock from the address of a client.
struct Door {
    port: u16,
    work: JoinHandle<()>,
}

impl Door {
    async fn open(from: IpAddr, to: String) -> Result<Self> {
        let to = e2e::socket_address(&to)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let work = tokio::spawn(async move {
            while let Ok((mut application, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind(SocketAddr::new(from, 0))?;
                    let mut twinlock = socket.connect(to).await?;
                    tokio::io::copy_bidirectional(&mut application, &mut twinlock).await
                });
            }
        });
        Ok(Self { port, work })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// The block of a page that follows these words.
fn block(page: &str, after: &str) -> Result<String> {
    let file: PathBuf = repository().join(format!("docs/integrations/{page}.md"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let (_, rest) = text.split_once(after).with_context(|| format!("{after:?} in {page}"))?;
    let (_, rest) = rest.split_once("\n```").with_context(|| format!("a block after {after:?} in {page}"))?;
    let (_, rest) = rest.split_once('\n').context("a first line")?;
    let (block, _) = rest.split_once("\n```").context("the end of a block")?;
    Ok(format!("{block}\n"))
}

fn company(text: &str) -> String {
    let account = "cn=search,ou=service,dc=example,dc=com";
    text.replace(account, Slapd::GITLAB_DN).replace("dc=example,dc=com", COMPANY_BASE).replace("\"corp\"", "\"acme\"")
}

/// A page's client at this machine, and its address.
fn ours(client: &str) -> Result<(IpAddr, String)> {
    let client = company(client).replace("\"10.0.4.", "\"127.0.4.");
    let (_, rest) = client.split_once("sources = [\"").context("sources")?;
    let (address, _) = rest.split_once("/32").context("one address")?;
    Ok((address.parse()?, client))
}

fn httpd_conf(port: u16, page: &str) -> String {
    let modules = ["mpm_event", "authn_core", "authz_core", "authz_user", "auth_basic", "ldap", "authnz_ldap", "dir"];
    let load =
        modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")).concat();
    format!(
        "ServerRoot /etc/apache2\nPidFile /run/apache2.pid\nServerName intranet.acme.example\nListen 127.0.0.1:{port}\n\
         ErrorLog /var/log/httpd.log\nUser nobody\nDocumentRoot /srv/www\n{load}{page}"
    )
}

const DOVECOT: &str = "log_path = /dev/stderr
protocols =
default_internal_user = root
default_internal_group = root
default_login_user = nobody
ssl = no
auth_mechanisms = plain
auth_failure_delay = 0
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/var/mail/%u
}
service auth {
  unix_listener auth-postfix {
    mode = 0666
  }
}
# Otherwise whoever comes after a wrong password waits for seconds.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
";

const POSTFIX: &str = "compatibility_level = 3.6
myhostname = mail.acme.example
inet_interfaces = 127.0.0.1
mydestination =
alias_maps =
local_recipient_maps =
maillog_file = /var/log/postfix.log
smtpd_relay_restrictions = permit_sasl_authenticated, reject
";

const POSTFIX_SERVICES: &str = "127.0.0.1:PORT inet n - n - - smtpd
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
rewrite unix - - n - - trivial-rewrite
";

/// Without modules: the libraries are the distribution's.
fn built_by_go(dir: &Path) -> Result<PathBuf> {
    let built = dir.join("bind_search_bind");
    let mut command = Command::new(program("go")?);
    command.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", dir.join("go-cache"));
    command.args(["build", "-o"]).arg(&built);
    run(command.arg(repository().join("tests/e2e/tests/ldap_applications/bind_search_bind.go")))?;
    Ok(built)
}

/// Runs a command with a line on stdin.
fn fed(mut command: Command, line: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let mut input = child.stdin.take().context("its input")?;
    writeln!(input, "{line}")?;
    drop(input);
    Ok(child.wait_with_output()?)
}

/// Whether a login succeeded, which is typed into a program.
fn succeeds(command: Command, password: &str) -> JoinHandle<Result<bool>> {
    let password = password.to_owned();
    spawn_blocking(move || Ok(fed(command, &password)?.status.success()))
}

fn run(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&lab::run(command)?.stdout).into_owned())
}

fn logs(programs: &[Proc]) -> String {
    programs.iter().map(|program| format!("{}:\n{}\n", program.name(), program.log())).collect()
}
