using System.Text;
using Bgsnap.Fuzz.Engine;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Fuzz.Readers;

/// <summary>A snapshot's manifest, <c>snapshot.json</c>.</summary>
internal sealed class ManifestTarget : FuzzTarget
{
    private const string Mark = ",\n  \"checksum\": \"sha256:";

    internal override string Name => "manifest";

    internal override bool IsRefusal(Exception e) => e is SnapshotCorruptException;

    // A tree of objects, and the text of every message in two forms.
    internal override long AllocationLimit(int length) => (512 << 10) + (256L * length);

    internal override void Read(byte[] input)
    {
        Manifest manifest = ManifestJson.Read(input, "snapshot.json");
        Promise(
            manifest.Files.All(f => ManifestJson.IsFileName(f.Name) && f.Size >= 0),
            "a file of the manifest has an impossible name or size"
        );
        Promise(manifest.Disks.All(d => d.File is null || manifest.Files.Any(f => f.Name == d.File)), "a disk's file is not listed");
        // What statuses and outputs add up must have a sum.
        _ = manifest.Files.Sum(f => f.Size);
        _ = manifest.Ram.Blocks.Sum(b => (long)b.UsedLength);
        _ = manifest.Disks.Sum(d => d.DataBytes);
        _ = manifest.Disks.Sum(d => d.StoredBytes);
        byte[] once = ManifestJson.Write(manifest);
        byte[] twice = ManifestJson.Write(ManifestJson.Read(once, "snapshot.json"));
        Promise(once.AsSpan().SequenceEqual(twice), "a manifest changes when it is written and read");
    }

    internal override byte[] Repair(byte[] input, Prng random)
    {
        // Everything behind the mark is made again, digits and end.
        int at = input.AsSpan().LastIndexOf(Encoding.ASCII.GetBytes(Mark));
        if (at < 0)
            return input;
        byte[] start = [.. input.AsSpan(0, at + Mark.Length)];
        return [.. start, .. Encoding.ASCII.GetBytes(Sha256.HexOf(start)), .. "\"\n}\n"u8];
    }

    internal override IReadOnlyList<byte[]> Words { get; } =
    [
        .. new[]
        {
            "null",
            "{}",
            "[]",
            "\"\"",
            "\"\\ud800\"",
            "true",
            "\"name\":",
            "\"files\": [",
            "\"disks\": [",
            "\"../x\"",
            "\"disks/a.qcow2\"",
            "9223372036854775807",
            "\"pointInTime\": \"9999-12-31T23:59:59.999999Z\"",
            "\"0001-01-01T00:00:00-23:59\"",
            "\"paused\": true",
            "-1",
            "\"method\": null",
            "\"after\": null",
        }.Select(Encoding.UTF8.GetBytes),
    ];

    internal override IEnumerable<byte[]> Samples()
    {
        Guid id = new("00112233-4455-6677-8899-aabbccddeeff");
        Manifest plain = GuestSnapshot.SampleManifest(id);
        yield return ManifestJson.Write(plain);
        yield return ManifestJson.Write(
            plain with
            {
                Parent = "db-0800",
                Capture = plain.Capture with
                {
                    StopWindow = new ManifestStopWindow(1, 2, 3, 4, 5),
                    Quiesce = "GuestAgent",
                    Paused = true,
                    After = "Stop",
                    DiskMethod = DiskMethods.Overlay,
                },
                Ram = plain.Ram with
                {
                    Blocks =
                    [
                        new ManifestRamBlock("pc.ram", 1 << 20, 4096, "anonymous"),
                        new ManifestRamBlock("vga.vram", 4096, 2 << 20, "shared"),
                    ],
                },
                Files =
                [
                    new ManifestFile("memory", 8192, "bgsnplog:00"),
                    new ManifestFile("device-state", 700, "sha256:00"),
                    new ManifestFile("disks/vda.qcow2", 327680, "sha256:00"),
                ],
                Disks =
                [
                    new ManifestDisk
                    {
                        Name = "vda",
                        File = "disks/vda.qcow2",
                        Format = "qcow2",
                        VirtualSize = 1 << 20,
                        DataBytes = 65536,
                        StoredBytes = 327680,
                        Method = "overlay",
                        NodeName = "#block1",
                        Device = "/machine/peripheral/d",
                        Image = new ManifestImage
                        {
                            Driver = "raw",
                            Filename = "/disks/0/disk.img",
                            Uid = 107,
                            Gid = 107,
                            Mode = "0600",
                        },
                    },
                    new ManifestDisk
                    {
                        Name = "cd",
                        Note = "removable",
                        Removable = true,
                        ReadOnly = true,
                    },
                ],
            }
        );
    }
}
