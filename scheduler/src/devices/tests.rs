use super::*;

fn found(env: &[(&str, &str)], files: usize) -> (Vec<String>, String) {
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let devices = Devices::found(&env, files);
    (devices.names().map(str::to_owned).collect(), devices.from().to_owned())
}

#[test]
fn devices_are_found_where_programs_look() {
    for (env, files, names, from) in [
        (&[("CUDA_VISIBLE_DEVICES", "2, 3,2")][..], 8, &["2", "3"][..], "CUDA_VISIBLE_DEVICES"),
        (&[("CUDA_VISIBLE_DEVICES", "GPU-1,MIG-2"), ("NVIDIA_VISIBLE_DEVICES", "all")], 8, &["GPU-1", "MIG-2"], "CUDA_VISIBLE_DEVICES"),
        (&[("CUDA_VISIBLE_DEVICES", "")], 2, &[], "CUDA_VISIBLE_DEVICES"),
        (&[("CUDA_VISIBLE_DEVICES", "0,-1,1")], 2, &["0"], "CUDA_VISIBLE_DEVICES"),
        (&[("CUDA_VISIBLE_DEVICES", "-1")], 2, &[], "CUDA_VISIBLE_DEVICES"),
        (&[("ROCR_VISIBLE_DEVICES", "1")], 0, &["1"], "ROCR_VISIBLE_DEVICES"),
        (&[("HIP_VISIBLE_DEVICES", "0"), ("ROCR_VISIBLE_DEVICES", "1")], 0, &["0"], "HIP_VISIBLE_DEVICES"),
        (&[("NVIDIA_VISIBLE_DEVICES", "all")], 2, &["0", "1"], "/dev/nvidia*"),
        (&[("NVIDIA_VISIBLE_DEVICES", "none")], 2, &[], "NVIDIA_VISIBLE_DEVICES"),
        // In a container with two of a machine's devices, and on the machine itself.
        (&[("NVIDIA_VISIBLE_DEVICES", "2,3")], 2, &["0", "1"], "NVIDIA_VISIBLE_DEVICES"),
        (&[("NVIDIA_VISIBLE_DEVICES", "2,3")], 8, &["2", "3"], "NVIDIA_VISIBLE_DEVICES"),
        (&[("NVIDIA_VISIBLE_DEVICES", "GPU-a,GPU-b")], 2, &["GPU-a", "GPU-b"], "NVIDIA_VISIBLE_DEVICES"),
        (&[], 3, &["0", "1", "2"], "/dev/nvidia*"),
        (&[], 0, &[], "/dev/nvidia*"),
    ] {
        let expected = (names.iter().map(|name| (*name).to_owned()).collect(), from.to_owned());
        assert_eq!(found(env, files), expected, "{env:?} {files}");
    }
}

#[test]
fn each_slot_has_its_own_while_there_are_enough() {
    let devices = Devices::named(&["a", "b", "c"], "umbel.toml:3", &|_| None);
    let names: Vec<_> = (0..7).map(|slot| devices.of_slot(slot).unwrap().name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c", "a", "b", "c", "a"]);
    assert_eq!([1, 3, 4, 6, 7].map(|slots| devices.shared_by(slots)), [None, None, Some(2), Some(2), Some(3)]);
    assert_eq!(devices.of_slot(1).unwrap().env(), [("CUDA_VISIBLE_DEVICES", "b"), ("UMBEL_DEVICE", "b")]);
    let none = Devices::default();
    assert_eq!((none.of_slot(0), none.shared_by(9)), (None, None));
}

#[test]
fn devices_are_given_in_the_variable_that_is_in_use() {
    let env = |name: &str| (name == "ROCR_VISIBLE_DEVICES").then(|| "0,1".to_owned());
    for devices in [Devices::named(&["1"], "a flag", &env), Devices::found(&env, 0)] {
        assert_eq!(devices.of_slot(0).unwrap().env()[0].0, "ROCR_VISIBLE_DEVICES");
    }
}
