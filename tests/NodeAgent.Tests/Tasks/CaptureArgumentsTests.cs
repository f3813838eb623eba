using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Tasks;

namespace Bgsnap.NodeAgent.Tests.Tasks;

/// <summary>The conversion of a task to the capture's command line.</summary>
public sealed class CaptureArgumentsTests
{
    [Fact]
    public void Defaults_are_left_to_the_command()
    {
        CaptureSpec defaults = new()
        {
            Engine = "Auto",
            Compression = "None",
            DiskMethod = "Auto",
            Quiesce = "IfAvailable",
            QuiesceTimeout = "10s",
            After = "Continue",
            Disks = new DiskSelection { Select = "All" },
        };
        Assert.Equal("capture --json --qmp=/q --container=c --output=/o --engine=auto --compression=none --max-downtime=1s", Of(defaults));
        Assert.Equal(Of(defaults), Of(null));
    }

    [Theory]
    [InlineData("None", null, "--disks=none")]
    [InlineData("Named", "vda", "--disks=vda")]
    [InlineData("Named", "vda,scsi0-0.1", "--disks=vda,scsi0-0.1")]
    public void Disks(string select, string? names, string expected) =>
        Assert.EndsWith(
            " " + expected,
            Of(
                new CaptureSpec
                {
                    Disks = new DiskSelection { Select = select, Names = names?.Split(',').ToList() },
                }
            ),
            StringComparison.Ordinal
        );

    [Theory]
    [InlineData("CopyBeforeWrite", null, "--max-downtime=1s --disk-method=copy-before-write")]
    [InlineData("Overlay", null, "--max-downtime=1s --disk-method=overlay")]
    [InlineData("VolumeSnapshot", null, "--max-downtime=10s --disk-method=volume-snapshot")]
    [InlineData("VolumeSnapshot", "3s", "--max-downtime=3s --disk-method=volume-snapshot")]
    public void Methods_and_the_time_that_they_may_take(string method, string? downtime, string expected) =>
        Assert.EndsWith(" " + expected, Of(new CaptureSpec { DiskMethod = method, MaxDowntime = downtime }), StringComparison.Ordinal);

    [Fact]
    public void VolumeSnapshots_of_named_disks_alone() =>
        Assert.EndsWith(
            "--max-downtime=10s --disks=vda --disk-method=volume-snapshot",
            Of(
                new CaptureSpec
                {
                    DiskMethod = "VolumeSnapshot",
                    Disks = new DiskSelection { Select = "Named", Names = ["vda"] },
                }
            ),
            StringComparison.Ordinal
        );

    [Theory]
    [InlineData("IfAvailable", "/a", "10s", "--guest-agent=/a --quiesce-timeout=10s")]
    [InlineData("Required", "/a", "3s", "--guest-agent=/a --quiesce=required --quiesce-timeout=3s")]
    [InlineData("Never", null, "3s", "--quiesce=never")]
    [InlineData("Required", null, null, "--quiesce=required")]
    public void The_guest_agent(string quiesce, string? socket, string? timeout, string expected) =>
        Assert.EndsWith(
            "--max-downtime=1s " + expected,
            Of(new CaptureSpec { Quiesce = quiesce, QuiesceTimeout = timeout }, socket),
            StringComparison.Ordinal
        );

    [Fact]
    public void A_guest_that_is_to_stay_stopped() =>
        Assert.EndsWith(" --after=stop", Of(new CaptureSpec { After = "Stop" }), StringComparison.Ordinal);

    [Theory]
    [InlineData("/scratch", 10L << 30, 1, " --scratch=/scratch --scratch-limit=9663676416")]
    [InlineData("/scratch", 10L << 30, 4, " --scratch=/scratch --scratch-limit=2415919104")]
    [InlineData("/scratch", null, 1, " --scratch=/scratch")]
    public void The_scratch_space_is_shared_and_a_tenth_of_it_left(string directory, long? size, int captures, string expected) =>
        Assert.EndsWith(
            expected,
            string.Join(
                ' ',
                new CaptureOrder
                {
                    Monitor = new() { QmpSocket = "/q" },
                    ContainerId = "c",
                    Output = "/o",
                    Scratch = Scratch.Shared(directory, size, captures),
                }.Arguments()
            ),
            StringComparison.Ordinal
        );

    [Fact]
    public void A_method_that_is_not_known_is_refused() =>
        Assert.Equal("BadTask", Assert.Throws<TaskFailure>(() => Of(new CaptureSpec { DiskMethod = "Magic" })).Reason);

    private static string Of(CaptureSpec? how, string? guestAgent = null) =>
        string.Join(
            ' ',
            new CaptureOrder
            {
                Monitor = new() { QmpSocket = "/q" },
                ContainerId = "c",
                Output = "/o",
                How = how,
                GuestAgent = guestAgent,
            }.Arguments()
        );
}
