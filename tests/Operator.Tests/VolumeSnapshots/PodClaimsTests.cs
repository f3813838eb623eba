using Bgsnap.Crds.Kinds;
using Bgsnap.Operator.VolumeSnapshots;

namespace Bgsnap.Operator.Tests.VolumeSnapshots;

/// <summary>Which claim a disk is on.</summary>
public sealed class PodClaimsTests
{
    private static readonly PodSummary Pod = new()
    {
        Spec = new PodSpecSummary
        {
            Volumes =
            [
                Claim("root", "db-root"),
                Claim("more", "db-more"),
                Claim("raw", "db-raw"),
                Claim("unused", "db-unused"),
                new VolumeSummary { Name = "scratch" },
            ],
            Containers =
            [
                new ContainerSummary
                {
                    Name = "qemu",
                    VolumeMounts = [Mount("root", "/disks"), Mount("more", "/disks/more/"), Mount("scratch", "/disks/more/tmp")],
                    VolumeDevices = [new VolumeDeviceSummary { Name = "raw", DevicePath = "/dev/vdc" }],
                },
                new ContainerSummary { Name = "sidecar", VolumeMounts = [Mount("unused", "/disks")] },
            ],
        },
    };

    [Theory]
    [InlineData("/disks/disk.img", "db-root")]
    [InlineData("/disks/a/b/disk.img", "db-root")]
    [InlineData("/disks/more/disk.img", "db-more")]
    [InlineData("/disks/moreover/disk.img", "db-root")] // a name that begins alike is not below
    [InlineData("/disks/more/tmp/disk.img", null)] // the deepest mount counts, and it is no claim
    [InlineData("/dev/vdc", "db-raw")]
    [InlineData("/dev/vdc1", null)]
    [InlineData("/elsewhere/disk.img", null)]
    [InlineData("", null)]
    public void The_claim_at_a_path(string path, string? claim) => Assert.Equal(claim, PodClaims.Of(Pod, "qemu").At(path));

    [Fact]
    public void Only_the_claims_of_the_container_count() => Assert.Equal(["db-more", "db-raw", "db-root"], PodClaims.Of(Pod, "qemu").All);

    [Fact]
    public void A_pod_without_volumes() => Assert.Empty(PodClaims.Of(new PodSummary(), "qemu").All);

    private static VolumeSummary Claim(string name, string claim) =>
        new()
        {
            Name = name,
            PersistentVolumeClaim = new ClaimVolume { ClaimName = claim },
        };

    private static VolumeMountSummary Mount(string name, string path) => new() { Name = name, MountPath = path };
}
