//! Links to other servers, in a real Docker and through the second door.

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::door::{Door, create, launch, port};
use integration_tests::instance::{configured, interface};
use integration_tests::on_host;
use nova_docker_agent::guest::configuration::Target;
use nova_docker_agent::guest::{Exposed, Guest, Peer, Peers};
use nova_docker_proto::v1;
use uuid::Uuid;

const NETWORK: Uuid = Uuid::from_u128(7);

async fn inside(docker: &Dockerd, id: impl std::fmt::Display, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{id}"), "sh", "-c", command]).await
}

fn database(address: &str) -> Peers {
    let peer = Peer {
        uuid: Uuid::from_u128(8),
        name: "mariadb".to_owned(),
        hostname: "mariadb-1".to_owned(),
        addresses: vec![(Some(NETWORK), address.parse().unwrap())],
        ports: Exposed::all(["3306/tcp"]),
    };
    Peers([(Target::parse("mariadb").unwrap(), vec![peer])].into())
}

fn linked() -> Guest {
    let asked = [("command", "sleep 1000"), ("link:db", "mariadb"), ("env:DB_PORT_3306_TCP_PROTO", "mine")];
    Guest { links: database("10.9.0.8"), ..configured(asked) }
}

fn a_linked_server_is_in_hosts_and_environment_and_hosts_follows_it_until_its_user_wants_otherwise() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = linked();
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let hosts = async || inside(&docker, guest.uuid, "cat /etc/hosts").await;
        assert!(hosts().await.contains("10.9.0.8\tdb mariadb mariadb-1\n"));
        let variables = inside(&docker, guest.uuid, "echo $DB_PORT $DB_NAME $DB_PORT_3306_TCP_PROTO").await;
        assert_eq!(variables, "tcp://10.9.0.8:3306 /test-host/db mine");

        // A new agent knows the links from the container.
        let driver = docker.driver().await;
        let known = driver.linked().await.unwrap();
        assert_eq!(known, [driver.links_of(guest.uuid).await.unwrap().unwrap()]);
        assert_eq!((known[0].uuid, known[0].project_id.as_str()), (guest.uuid, "project-of-the-test"));
        assert_eq!(known[0].links, guest.configuration.links);

        inside(&docker, guest.uuid, "echo '192.0.2.1 mine' >>/etc/hosts").await;
        driver.update_links(guest.uuid, &[NETWORK], &database("10.9.0.9")).await.unwrap();
        let now = hosts().await;
        assert!(
            now.contains("10.9.0.9\tdb mariadb") && now.contains("192.0.2.1 mine") && !now.contains("10.9.0.8"),
            "{now}"
        );
        // The instance's own address changes in the same file.
        driver.update_network_files(guest.uuid, &[interface(0, 5)]).await.unwrap();
        driver.update_links(guest.uuid, &[NETWORK], &Peers::default()).await.unwrap();
        let now = hosts().await;
        assert!(now.contains("10.9.0.5\ttest-host") && !now.contains("mariadb"), "{now}");

        inside(&docker, guest.uuid, "grep -v nova-docker-agent /etc/hosts >/h; cat /h >/etc/hosts").await;
        driver.update_links(guest.uuid, &[NETWORK], &database("10.9.0.9")).await.unwrap();
        assert!(!hosts().await.contains("mariadb"), "the file is its user's");
    });
}

fn what_an_image_exposes_is_read_from_its_container() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = configured([("command", "sleep 1000")]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        assert_eq!(driver.exposed(guest.uuid).await.unwrap(), Some(vec![]));
        assert_eq!(driver.links_of(guest.uuid).await.unwrap(), None);
        let name = format!("nova-{}", guest.uuid);
        docker.docker(&["commit", "-c", "EXPOSE 8080 3306 53/udp", &name, "exposing:test"]).await;
        let guest = configured([("command", "sleep 1000")]);
        driver.create(&guest, "exposing:test", &[]).await.unwrap();
        let exposed = driver.exposed(guest.uuid).await.unwrap().unwrap();
        assert_eq!(exposed, Exposed::all(["3306/tcp", "8080/tcp", "53/udp"]));
        assert_eq!(driver.exposed(Uuid::nil()).await.unwrap(), None);
    });
}

fn server(address: &str) -> v1::Links {
    let addresses = vec![v1::LinkedAddress { network_id: NETWORK.to_string(), address: address.to_owned() }];
    let server = v1::LinkedServer {
        server_id: Uuid::from_u128(8).to_string(),
        name: "mariadb".to_owned(),
        hostname: "mariadb-1".to_owned(),
        addresses,
    };
    v1::Links { targets: vec![v1::LinkTarget { target: "mariadb".to_owned(), servers: vec![server] }] }
}

fn a_client_is_told_what_to_look_up_and_hands_over_what_it_has_found() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut wanted = door.guest("sleep 1000", &[port(0, 5)]);
        let guest = wanted.guest.as_mut().unwrap();
        guest.metadata.insert("docker:link:db".to_owned(), "mariadb".to_owned());
        guest.metadata.insert("docker:link_wait".to_owned(), "90s".to_owned());
        let mut asked =
            v1::GetLinksRequest { guest: wanted.guest.clone(), image: wanted.image.clone(), ..Default::default() };
        let told = client.get_links(asked.clone()).await.unwrap().into_inner();
        let query = v1::LinkQuery {
            target: "mariadb".to_owned(),
            filter: "display_name".to_owned(),
            value: "^mariadb$".to_owned(),
            limit: 200,
        };
        assert_eq!((told.queries, told.patience.unwrap().seconds), (vec![query.clone()], 90));
        assert!(told.missing.contains("docker:link:db: the project has no other server"), "{}", told.missing);

        let refused = create(&mut client, wanted.clone()).await.unwrap_err();
        assert!(refused.message().contains("docker:link:*: the client is too old"), "{refused:?}");
        wanted.guest.as_mut().unwrap().links = Some(v1::Links::default());
        let refused = create(&mut client, wanted.clone()).await.unwrap_err();
        assert!(refused.message().contains("docker:link:db: the project has no other server"), "{refused:?}");

        wanted.guest.as_mut().unwrap().links = Some(server("10.9.0.8"));
        asked.guest = wanted.guest.clone();
        assert_eq!(client.get_links(asked).await.unwrap().into_inner().missing, "");
        let id = launch(&mut client, wanted).await;
        assert!(inside(&door.docker, &id, "cat /etc/hosts").await.contains("10.9.0.8\tdb mariadb mariadb-1\n"));

        let of_guest = v1::GetLinksRequest { guest_id: id.clone(), ..Default::default() };
        assert_eq!(client.get_links(of_guest).await.unwrap().into_inner().queries, [query]);
        let update = |guest_id: &str| v1::UpdateLinksRequest {
            guest_id: guest_id.to_owned(),
            network_ids: vec![NETWORK.to_string()],
            links: Some(server("10.9.0.9")),
        };
        client.update_links(update(&id)).await.unwrap();
        assert!(inside(&door.docker, &id, "cat /etc/hosts").await.contains("10.9.0.9\tdb mariadb mariadb-1\n"));
        let absent = client.update_links(update(&Uuid::nil().to_string())).await.unwrap_err();
        assert_eq!(absent.code(), tonic::Code::NotFound);
    });
}

tests! {
    a_linked_server_is_in_hosts_and_environment_and_hosts_follows_it_until_its_user_wants_otherwise,
    what_an_image_exposes_is_read_from_its_container,
    a_client_is_told_what_to_look_up_and_hands_over_what_it_has_found,
}
