mod support;
use domain::settings::FirstEnrolment::Open;
#[tokio::test]
async fn serve() {
    let world = support::World::new(Open).await;
    world.store.give_factor("ben");
    std::fs::write("/tmp/portal-address", world.address.to_string()).unwrap();
    while !std::path::Path::new("/tmp/portal-stop").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
