using System.Security.Cryptography;
using System.Text;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Store;

public sealed class ManifestJsonTests
{
    private static Manifest Sample =>
        GuestSnapshot.SampleManifest(Guid.Parse("01234567-89ab-cdef-0123-456789abcdef")) with
        {
            Files = [new ManifestFile("memory", 1, "bgsnplog:00"), new ManifestFile("device-state", 2, "sha256:00")],
        };

    [Fact]
    public void A_manifest_reads_back_and_is_fit_for_people()
    {
        byte[] bytes = ManifestJson.Write(Sample);
        string text = Encoding.UTF8.GetString(bytes);
        Assert.StartsWith(
            "{\n  \"formatVersion\": 1,\n  \"kind\": \"bgsnap.io/snapshot\",\n  \"id\": \"01234567-89ab-cdef-0123-456789abcdef\",\n",
            text,
            StringComparison.Ordinal
        );
        Assert.Contains("\"pointInTime\": \"2026-08-01T09:00:00.123456Z\"", text, StringComparison.Ordinal);
        Assert.Contains("grüße \\\"+<", text, StringComparison.Ordinal);
        Assert.Contains("\"parent\": null", text, StringComparison.Ordinal);
        Assert.Matches("\n  \\],\n  \"checksum\": \"sha256:[0-9a-f]{64}\"\n}\n$", text);
        Manifest back = ManifestJson.Read(bytes, "snapshot.json");
        Assert.Equal(text, Encoding.UTF8.GetString(ManifestJson.Write(back)));
        Assert.Equal(Sample.PointInTime, back.PointInTime);
    }

    [Fact]
    public void Every_flipped_byte_is_found()
    {
        byte[] bytes = ManifestJson.Write(Sample);
        for (int i = 0; i < bytes.Length; i++)
        {
            foreach (byte flip in (byte[])[0x01, 0x20, 0x80, 0xff])
            {
                bytes[i] ^= flip;
                Assert.Throws<SnapshotCorruptException>(() => ManifestJson.Read(bytes, "snapshot.json"));
                bytes[i] ^= flip;
            }
        }
    }

    [Fact]
    public void Every_cut_and_every_addition_is_found()
    {
        byte[] bytes = ManifestJson.Write(Sample);
        for (int i = 0; i < bytes.Length; i++)
            Assert.Throws<SnapshotCorruptException>(() => ManifestJson.Read(bytes.AsSpan(0, i), "f"));
        Assert.Throws<SnapshotCorruptException>(() => ManifestJson.Read([.. bytes, (byte)'\n'], "f"));
        Assert.Throws<SnapshotCorruptException>(() => ManifestJson.Read([(byte)' ', .. bytes], "f"));
    }

    [Fact]
    public void Unknown_fields_are_ignored() =>
        Assert.Equal(
            "db-0900",
            Read(Text().Replace("\"parent\"", "\"later\": {\"a\": [1]},\n  \"parent\"", StringComparison.Ordinal)).Name
        );

    [Theory]
    [InlineData("\"name\": \"db-0900\",", "")] // missing
    [InlineData("\"formatVersion\": 1,", "")]
    [InlineData("\"kind\": \"bgsnap.io/snapshot\",", "")]
    [InlineData("\"pid\": 42,", "")]
    [InlineData("\"disks\": [],", "")]
    [InlineData("\"name\": \"db-0900\"", "\"name\": null")] // null
    [InlineData("\"name\": \"db-0900\"", "\"name\": 5")] // wrong type
    [InlineData("\"name\": \"db-0900\"", "\"name\": \"\\ud800\"")] // half a character
    [InlineData("\"name\": \"db-0900\"", "\"name\": \"a\",\n  \"name\": \"b\"")]
    [InlineData("\"pid\": 42", "\"pid\": 99999999999")]
    [InlineData("\"pid\": 42", "\"pid\": \"42\"")]
    [InlineData("\"disks\": []", "\"disks\": [null]")]
    [InlineData("\"disks\": []", "\"disks\": {}")]
    [InlineData("\"blocks\": []", "\"blocks\": null")]
    [InlineData("\"blocks\": []", "\"blocks\": [{\"name\": \"a\", \"usedLength\": -1, \"pageSize\": 4096, \"kind\": \"x\"}]")]
    [InlineData(
        "\"blocks\": []",
        "\"blocks\": [{\"name\": \"a\", \"usedLength\": 1152921504606846976, \"pageSize\": 4096, \"kind\": \"x\"}]"
    )]
    [InlineData("\"blocks\": []", "\"blocks\": [{\"name\": \"a\", \"pageSize\": 4096, \"kind\": \"x\"}]")]
    [InlineData("\"formatVersion\": 1", "\"formatVersion\": 2")]
    [InlineData("bgsnap.io/snapshot", "bgsnap.io/other")]
    [InlineData("2026-08-01T09:00:00.123456Z", "yesterday")]
    [InlineData("01234567-89ab-cdef-0123-456789abcdef", "x")]
    [InlineData("\"device-state\"", "\"../device-state\"")]
    [InlineData("\"device-state\"", "\"/etc/passwd\"")]
    [InlineData("\"device-state\"", "\"memory\"")]
    [InlineData("\"device-state\"", "\"a\\u0000b\"")]
    [InlineData("\"size\": 2", "\"size\": -2")]
    [InlineData("{\n  \"formatVersion\"", "[\n  \"formatVersion\"")]
    public void Wrong_content_is_refused_although_its_checksum_is_right(string what, string with)
    {
        string text = Text();
        Assert.Contains(what, text, StringComparison.Ordinal);
        Assert.Throws<SnapshotCorruptException>(() => Read(text.Replace(what, with, StringComparison.Ordinal)));
    }

    [Fact]
    public void Deep_nesting_and_great_length_are_refused()
    {
        Assert.Throws<SnapshotCorruptException>(() =>
            Read(Text().Replace("\"parent\": null", $"\"parent\": {new string('[', 100_000)}", StringComparison.Ordinal))
        );
        Assert.Throws<SnapshotCorruptException>(() => ManifestJson.Read(new byte[(16 << 20) + 1], "f"));
        Assert.Throws<ArgumentException>(() => ManifestJson.Write(Sample with { Name = new string('x', 17 << 20) }));
    }

    [Fact]
    public void Our_sha256_is_the_standards()
    {
        var random = new Random(6);
        for (int length = 0; length < 400; length++)
        {
            byte[] bytes = new byte[length];
            random.NextBytes(bytes);
            Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes)), Sha256.HexOf(bytes));
            var parts = new Sha256();
            for (int at = 0; at < length; )
            {
                int n = Math.Min(random.Next(150), length - at);
                parts.Append(bytes.AsSpan(at, n));
                at += n;
            }
            Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes)), parts.FinishHex());
        }
    }

    [Fact]
    public void Disks_read_back_and_old_manifests_without_their_fields_stay_readable()
    {
        var vda = new ManifestDisk
        {
            Name = "vda",
            File = "disks/vda.qcow2",
            Format = "qcow2",
            VirtualSize = 1 << 30,
            DataBytes = 65536,
            StoredBytes = 2,
            Method = DiskMethods.CopyBeforeWrite,
            Device = "/machine/peripheral/vda/virtio-backend",
            NodeName = "node0",
            Image = new ManifestImage
            {
                Driver = "raw",
                Filename = "/disks/0/disk.img",
                Uid = 107,
                Gid = 107,
                Mode = "0600",
            },
        };
        var cd = new ManifestDisk
        {
            Name = "ide1-cd0",
            Note = "no medium",
            ReadOnly = true,
            Removable = true,
        };
        Manifest written = WithDisks(vda, cd) with
        {
            Capture = Sample.Capture with { Quiesce = "GuestAgent", After = "Stop", DiskMethod = "copy-before-write" },
        };
        Manifest back = ManifestJson.Read(ManifestJson.Write(written), "snapshot.json");
        Assert.Equal([vda, cd], back.Disks);
        Assert.Equal(written.Capture with { Timeline = [] }, back.Capture with { Timeline = [] });

        string[] added = ["quiesce", "after", "diskMethod", "diskMethodReason"];
        string old = string.Join(
            '\n',
            Text().Split('\n').Where(line => !added.Any(f => line.Contains($"\"{f}\":", StringComparison.Ordinal)))
        );
        Assert.Equal(Text().Count(c => c == '\n') - added.Length, old.Count(c => c == '\n'));
        Assert.Equal("Continue", Read(old).Capture.After);
    }

    [Theory]
    [InlineData("\"name\": \"vda\"", "\"name\": \"vdb\"")]
    [InlineData("\"name\": \"vda\"", "\"name\": \"../vda\"")]
    [InlineData("\"name\": \"vda\"", "\"name\": \".vda\"")]
    [InlineData("\"name\": \"vda\"", "\"name\": \"\"")]
    [InlineData("\"file\": \"disks/vda.qcow2\"", "\"file\": \"disks/vdb.qcow2\"")]
    [InlineData("\"file\": \"disks/vda.qcow2\"", "\"file\": \"device-state\"")]
    [InlineData("\"file\": \"disks/vda.qcow2\"", "\"file\": \"disks/../../etc/passwd\"")]
    [InlineData("\"file\": \"disks/vda.qcow2\"", "\"file\": null")]
    [InlineData("\"format\": \"qcow2\"", "\"format\": \"vmdk\"")]
    [InlineData("\"format\": \"qcow2\"", "\"format\": null")]
    [InlineData("\"virtualSize\": 512", "\"virtualSize\": -512")]
    [InlineData("\"storedBytes\": 3", "\"storedBytes\": 4")]
    [InlineData("\"dataBytes\": 0", "\"dataBytes\": -1")]
    [InlineData("\"method\": \"none\"", "\"method\": null")]
    public void A_disk_that_is_not_one_is_refused(string what, string with)
    {
        static ManifestDisk Disk(string name) =>
            new()
            {
                Name = name,
                File = ManifestDisk.FileOf(name),
                Format = "qcow2",
                VirtualSize = 512,
                StoredBytes = 3,
            };
        string text = Encoding.UTF8.GetString(ManifestJson.Write(WithDisks(Disk("vda"), Disk("vdb"))));
        _ = Read(text);
        int at = text.IndexOf(what, StringComparison.Ordinal);
        Assert.True(at > 0);
        Assert.Throws<SnapshotCorruptException>(() => Read(text[..at] + with + text[(at + what.Length)..]));
    }

    /// <summary>A status adds the sizes up, and so does a restore.</summary>
    [Fact]
    public void Sizes_that_have_no_sum_are_refused()
    {
        Manifest files = Sample with
        {
            Files = [new ManifestFile("memory", long.MaxValue, "x"), new ManifestFile("device-state", long.MaxValue, "y")],
        };
        Manifest disks = WithDisks([
            .. new[] { "vda", "vdb" }.Select(n => new ManifestDisk
            {
                Name = n,
                File = ManifestDisk.FileOf(n),
                Format = "qcow2",
                DataBytes = long.MaxValue,
            }),
        ]);

        Assert.Throws<SnapshotCorruptException>(() => Read(Encoding.UTF8.GetString(ManifestJson.Write(files))));
        Assert.Throws<SnapshotCorruptException>(() => Read(Encoding.UTF8.GetString(ManifestJson.Write(disks))));
    }

    private static Manifest WithDisks(params ManifestDisk[] disks) =>
        Sample with
        {
            Disks = disks,
            Files =
            [
                .. Sample.Files,
                .. disks.Where(d => d.File is not null).Select(d => new ManifestFile(d.File!, d.StoredBytes, "sha256:00")),
            ],
        };

    private static string Text() => Encoding.UTF8.GetString(ManifestJson.Write(Sample));

    // As a forger would do: changes the text and corrects the checksum.
    private static Manifest Read(string text)
    {
        const string Head = "\"checksum\": \"sha256:";
        string body = text[..(text.LastIndexOf(Head, StringComparison.Ordinal) + Head.Length)];
        string hex = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(body)));
        return ManifestJson.Read(Encoding.UTF8.GetBytes($"{body}{hex}\"\n}}\n"), "snapshot.json");
    }
}
