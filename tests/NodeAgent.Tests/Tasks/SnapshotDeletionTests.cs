using Bgsnap.Linux;
using Bgsnap.NodeAgent.Tasks;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tests.Tasks;

public sealed class SnapshotDeletionTests : IDisposable
{
    private readonly FakeNode _node = new();

    public void Dispose() => _node.Dispose();

    [Fact]
    public void Only_the_directory_goes()
    {
        FakeNode.WriteSnapshot(Path.Join(_node.Claim, "snap"));
        FakeNode.WriteSnapshot(Path.Join(_node.Claim, "other"));
        Delete();
        Assert.Equal(["other"], Directory.GetFileSystemEntries(_node.Claim).Select(Path.GetFileName));
        Assert.True(File.Exists(Path.Join(_node.Claim, "other", FormatV1.ManifestFileName)));
    }

    [Fact]
    public void What_is_not_there_is_removed_already() => Delete();

    [Fact]
    public void Links_are_removed_and_not_followed()
    {
        string kept = Path.Join(_node.Claim, "kept");
        Directory.CreateDirectory(kept);
        File.WriteAllText(Path.Join(kept, "file"), "");
        string snapshot = Path.Join(_node.Claim, "snap");
        Directory.CreateDirectory(snapshot);
        File.CreateSymbolicLink(Path.Join(snapshot, "disks"), kept);
        Delete();
        Assert.False(Directory.Exists(snapshot));
        Assert.True(File.Exists(Path.Join(kept, "file")));
    }

    [Fact]
    public void A_directory_that_is_a_link_is_not_entered()
    {
        string kept = Path.Join(_node.Claim, "kept");
        FakeNode.WriteSnapshot(kept);
        File.CreateSymbolicLink(Path.Join(_node.Claim, "snap"), kept);
        Assert.ThrowsAny<LinuxException>(Delete);
        Assert.True(File.Exists(Path.Join(kept, FormatV1.ManifestFileName)));
    }

    [Fact]
    public void What_stays_is_said_and_is_no_snapshot_any_more()
    {
        string snapshot = Path.Join(_node.Claim, "snap");
        FakeNode.WriteSnapshot(snapshot);
        Directory.CreateDirectory(Path.Join(snapshot, "a", "b", "c"));
        LinuxException e = Assert.ThrowsAny<LinuxException>(Delete);
        Assert.Contains("snap: a file in it could not be removed", e.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Join(snapshot, FormatV1.ManifestFileName)));
        Assert.ThrowsAny<LinuxException>(() => SnapshotDirectory.Open(snapshot));
    }

    private void Delete()
    {
        using SafeFileHandle claim = SnapshotFiles.OpenDirectory(null, _node.Claim);
        SnapshotDeletion.Delete(claim, "snap");
    }
}
