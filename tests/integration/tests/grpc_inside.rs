//! What is put into guests, and seen of them, through the second door.

use integration_tests::door::{Door, create, port, reason};
use integration_tests::on_host;
use nova_docker_proto::v1;
use tonic::Code;
use uuid::Uuid;

fn file(path: &str, content: &str) -> v1::InjectedFile {
    v1::InjectedFile { path: path.to_owned(), content: content.as_bytes().to_vec() }
}

fn a_guest_has_its_files_and_its_drive_and_tells_what_it_uses() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let interfaces = [port(0, 5)];
        let mut request = door.guest("sleep 1000", &interfaces);
        let guest = request.guest.as_mut().unwrap();
        let guest_id = guest.guest_id.clone();
        let drive = v1::ConfigDrive { files: vec![file("openstack/latest/user_data", "the data")] };
        guest.inside = Some(v1::Inside {
            files: vec![file("/etc/shadow", "root:*:1::::::\n")],
            config_drive: Some(drive),
            ..v1::Inside::default()
        });
        create(&mut client, request).await.unwrap();
        let start =
            v1::StartGuestRequest { guest_id: guest_id.clone(), interfaces: interfaces.to_vec(), user_data: None };
        client.start_guest(start).await.unwrap();
        let name = format!("nova-{guest_id}");
        let inside = async |command: &str| door.docker.docker(&["exec", &name, "sh", "-c", command]).await;
        assert_eq!(inside("cat /config-2/openstack/latest/user_data").await, "the data");

        let password = |user: &str| v1::SetGuestPasswordRequest {
            guest_id: guest_id.clone(),
            user: user.to_owned(),
            password: "secret".to_owned(),
        };
        client.set_guest_password(password("")).await.unwrap();
        assert!(inside("cat /etc/shadow").await.starts_with("root:$6$"));
        let status = client.set_guest_password(password("nobody")).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).1.as_str()), (Code::FailedPrecondition, "UNSUPPORTED"));

        let asked = v1::GetGuestDiagnosticsRequest { guest_id: guest_id.clone() };
        let told = client.get_guest_diagnostics(asked).await.unwrap().into_inner().diagnostics.unwrap();
        assert!(told.cpu_time_ns > 0 && told.memory_used > 0 && told.memory_limit > told.memory_used, "{told:?}");
        assert_eq!((told.interfaces[0].name.as_str(), told.uptime.is_some()), ("eth0", true));

        let delete = v1::DeleteGuestRequest { guest_id, ..Default::default() };
        client.delete_guest(delete).await.unwrap();
        let drives = door.docker.path("state").join("docker-config-drives");
        assert_eq!(std::fs::read_dir(drives).unwrap().count(), 0, "a drive stays");
        let nobody = v1::GetGuestDiagnosticsRequest { guest_id: Uuid::nil().to_string() };
        assert_eq!(client.get_guest_diagnostics(nobody).await.unwrap_err().code(), Code::NotFound);
        door.close().await;
    });
}

fn a_file_that_leads_out_of_the_guest_is_refused_before_anything_is_made() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = door.guest("sleep 1000", &[]);
        request.guest.as_mut().unwrap().inside =
            Some(v1::Inside { files: vec![file("/../x", "")], ..v1::Inside::default() });
        let status = create(&mut client, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("/../x"), "{status}");
        door.close().await;
    });
}

tests! {
    a_guest_has_its_files_and_its_drive_and_tells_what_it_uses,
    a_file_that_leads_out_of_the_guest_is_refused_before_anything_is_made,
}
