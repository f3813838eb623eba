using System.Security.Cryptography;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tasks;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public sealed class FinishedSnapshotTests : IDisposable
{
    private readonly FakeNode _node = new();

    public void Dispose() => _node.Dispose();

    [Fact]
    public void None_is_none() => Assert.Null(Read());

    [Fact]
    public void The_status_tells_what_the_manifest_does()
    {
        string directory = Path.Join(_node.Claim, "snap");
        Manifest manifest = FakeNode.WriteSnapshot(directory);
        SnapshotTaskStatus status = Read()!;
        CaptureResult r = status.Result!;
        Assert.Equal((TaskPhase.Succeeded, 100, manifest.PointInTime.UtcDateTime), (status.Phase, status.Percent, status.PointInTime));
        Assert.Equal((4600, 800_000, 1_200_000), (r.DowntimeMicroseconds, r.ProtectionWindowMicroseconds, r.TotalMicroseconds));
        Assert.Equal((3, 20, 50, 67), (r.Faults, r.FaultP50Microseconds, r.FaultP99Microseconds, r.FaultMaxMicroseconds));
        Assert.Equal("Agent", r.Engine);
        Assert.Equal(manifest.Ram.Blocks.Sum(b => (long)b.UsedLength), r.RamBytes);
        Assert.Equal(Directory.GetFiles(directory, "*", SearchOption.AllDirectories).Sum(f => new FileInfo(f).Length), r.StoredBytes);
        Assert.Equal(
            "sha256:" + Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(Path.Join(directory, FormatV1.ManifestFileName)))),
            r.ManifestChecksum
        );
    }

    [Theory]
    [InlineData(null, false, "Online")]
    [InlineData("Online", false, "Online")]
    [InlineData("GuestAgent", false, "Online GuestAgent")]
    [InlineData("NoGuestAgent", false, "Online NoGuestAgent")]
    [InlineData("NoGuestAgent", true, "Online Paused")]
    public void How_the_guest_was_is_told_in_KubeVirts_words(string? quiesce, bool paused, string words) =>
        Assert.Equal(
            words,
            string.Join(
                ' ',
                FinishedSnapshot.Indications(
                    GuestSnapshot.SampleManifest(Guid.NewGuid()).Capture with
                    {
                        Quiesce = quiesce,
                        Paused = paused,
                    }
                )
            )
        );

    [Theory]
    [InlineData("{")]
    [InlineData("")]
    [InlineData(null)]
    public void A_damaged_one_is_an_error_and_not_none(string? manifest)
    {
        string directory = Path.Join(_node.Claim, "snap"),
            file = Path.Join(directory, FormatV1.ManifestFileName);
        FakeNode.WriteSnapshot(directory);
        File.Delete(file);
        if (manifest is not null)
            File.WriteAllText(file, manifest);
        Exception e = Assert.ThrowsAny<Exception>(Read);
        Assert.True(manifest is null ? e is LinuxException { Errno: Errno.ENOENT } : e is SnapshotCorruptException, e.ToString());
    }

    private SnapshotTaskStatus? Read()
    {
        using SafeFileHandle claim = SnapshotFiles.OpenDirectory(null, _node.Claim);
        return FinishedSnapshot.Read(claim, "snap");
    }
}
