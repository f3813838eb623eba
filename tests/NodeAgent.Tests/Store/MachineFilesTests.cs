using System.Text;
using Bgsnap.Engine.Capture;
using Bgsnap.Qemu;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

/// <summary>The descriptions of the machine that a snapshot contains, and hostile files in their place.</summary>
public sealed class MachineFilesTests : IDisposable
{
    private readonly TempDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void What_was_kept_is_read_and_verified()
    {
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(
            With((FormatV1.DomainXmlFileName, "<domain/>"), (FormatV1.ObjectsFileName, "{}"))
        );

        Assert.Equal("<domain/>"u8.ToArray(), snapshot.ReadDomainXml());
        Assert.Equal("{}"u8.ToArray(), snapshot.ReadObjects());
        Assert.Equal(
            2,
            snapshot.Manifest.Files.Count(f =>
                f.Name is FormatV1.DomainXmlFileName or FormatV1.ObjectsFileName
                && f.Checksum.StartsWith("sha256:", StringComparison.Ordinal)
            )
        );
        Assert.True(SnapshotVerifier.Verify(snapshot.Path).IsSound);
    }

    [Fact]
    public void A_snapshot_need_have_neither()
    {
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(With());
        Assert.Null(snapshot.ReadDomainXml());
        Assert.Null(snapshot.ReadObjects());
    }

    [Theory]
    [InlineData("<domaim/>", "checksum is not the manifest's")]
    [InlineData("<domain/> ", "has 10 bytes, the manifest says 9")]
    [InlineData("", "has 0 bytes, the manifest says 9")]
    public void What_was_changed_is_found(string becomes, string message)
    {
        string path = With((FormatV1.DomainXmlFileName, "<domain/>"));
        File.WriteAllText(Path.Join(path, FormatV1.DomainXmlFileName), becomes);

        using SnapshotDirectory snapshot = SnapshotDirectory.Open(path);

        SnapshotCorruptException e = Assert.Throws<SnapshotCorruptException>(snapshot.ReadDomainXml);
        Assert.Contains(message, e.Message, StringComparison.Ordinal);
        Assert.Contains(FormatV1.DomainXmlFileName, e.Message, StringComparison.Ordinal);
        Assert.False(SnapshotVerifier.Verify(path).IsSound);
    }

    // Its checksum is right: an attacker who can write the directory can write that too.
    [Fact]
    public void One_that_is_too_long_is_not_read_into_memory()
    {
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(With((FormatV1.ObjectsFileName, new string(' ', (4 << 20) + 1))));
        SnapshotCorruptException e = Assert.Throws<SnapshotCorruptException>(snapshot.ReadObjects);
        Assert.Contains($"more than {4 << 20}", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_link_in_its_place_is_not_followed()
    {
        string path = With((FormatV1.DomainXmlFileName, "<domain/>")),
            file = Path.Join(path, FormatV1.DomainXmlFileName),
            secret = _directory.Sub("secret");
        File.WriteAllText(secret, "<domain/>");
        File.Delete(file);
        File.CreateSymbolicLink(file, secret);
        using SnapshotDirectory snapshot = SnapshotDirectory.Open(path);
        Assert.Throws<Bgsnap.Linux.LinuxException>(snapshot.ReadDomainXml);
    }

    [Fact]
    public void Objects_that_are_no_JSON_are_refused()
    {
        string path = _directory.Sub("objects");
        File.WriteAllText(path, "{\"items\":[]}");
        Assert.Equal("{\"items\":[]}", MachineFiles.ReadObjects(path));
        File.WriteAllText(path, "items: []");
        RefusedException e = Assert.Throws<RefusedException>(() => MachineFiles.ReadObjects(path));
        Assert.Equal("ObjectsInvalid", e.Reason);
    }

    private string With(params (string Name, string Text)[] files)
    {
        string path = _directory.Sub("snapshot");
        using SnapshotDirectoryWriter writer = SnapshotDirectoryWriter.Begin(path);
        Manifest manifest = GuestSnapshot.Fill(writer, GuestSnapshot.Small(), PageCompression.None);
        foreach ((string name, string text) in files)
        {
            using var file = writer.CreateFile(name);
            RandomAccess.Write(file, Encoding.UTF8.GetBytes(text), 0);
        }
        writer.Commit(manifest);
        return path;
    }
}
