using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Tests.InMemory;
using Bgsnap.Operator.VolumeSnapshots;
using k8s.Models;

namespace Bgsnap.Operator.Tests.VolumeSnapshots;

/// <summary>A VM with two disks on claims, and the storage that holds them.</summary>
internal static class VolumeSnapshotObjects
{
    internal static async Task<World> World(bool withClass = true)
    {
        World world = new();
        await world.AddClaim(TestObjects.ClaimNamed(TestObjects.Claim));
        await world.AddClaim(TestObjects.ClaimNamed("db-data"));
        V1PersistentVolumeClaim root = TestObjects.ClaimNamed("db-root");
        root.Metadata.Annotations = new Dictionary<string, string> { ["volume.kubernetes.io/storage-provisioner"] = FakeStorage.Driver };
        await world.AddClaim(root);
        await world.AddPod(
            TestObjects.VmPod(change: p =>
            {
                p.Spec.Volumes = [Volume("root"), Volume("data"), new V1Volume { Name = "iso", EmptyDir = new V1EmptyDirVolumeSource() }];
                p.Spec.Containers[0].VolumeMounts =
                [
                    new V1VolumeMount { Name = "root", MountPath = "/disks/root" },
                    new V1VolumeMount { Name = "iso", MountPath = "/iso" },
                ];
                p.Spec.Containers[0].VolumeDevices = [new V1VolumeDevice { Name = "data", DevicePath = "/dev/data" }];
            })
        );
        if (withClass)
            await world.Storage.AddClass();
        return world;
    }

    internal static VMBackgroundSnapshot Snapshot(Action<CaptureSpec>? change = null, string policy = "Delete")
    {
        CaptureSpec capture = new() { DiskMethod = DiskCaptureMethod.VolumeSnapshot };
        change?.Invoke(capture);
        return TestObjects.Snapshot("a", change: s => (s.Capture, s.DeletionPolicy) = (capture, policy));
    }

    private static V1Volume Volume(string name) =>
        new()
        {
            Name = name,
            PersistentVolumeClaim = new V1PersistentVolumeClaimVolumeSource { ClaimName = "db-" + name },
        };
}
