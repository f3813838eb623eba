using System.Security.Cryptography;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// A snapshot of a machine with two disks, <c>system</c> and <c>data</c>. The test itself creates the disks' files, as
/// docs/snapshot-format.md defines them and with QEMU's own tool: this tests the restore independently of how a capture writes disks.
/// </summary>
internal sealed class DiskSnapshot : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private DiskSnapshot(string folder) => Folder = folder;

    public string Folder { get; }

    public string Directory => Path.Combine(Folder, "snapshot");

    public byte[] System { get; private set; } = [];

    public byte[] Data { get; private set; } = [];

    public string FileOf(string disk) => Path.Combine(Directory, "disks", $"{disk}.qcow2");

    /// <param name="machine">The machine, without its disks.</param>
    /// <param name="compression">The snapshot of the memory.</param>
    /// <param name="diskSize">The size of each disk in bytes.</param>
    public static async Task<DiskSnapshot> TakeAsync(VirtualMachineOptions machine, string compression = "none", long diskSize = Disks.Size)
    {
        Requirements.Need(machine);
        DiskSnapshot made = new(TestFolder.Create());
        try
        {
            var system = Disks.Raw(made.Folder, "source-system.img", seed: 1, diskSize);
            var data = Disks.Raw(made.Folder, "source-data.img", seed: 2, diskSize);
            (made.System, made.Data) = (await File.ReadAllBytesAsync(system), await File.ReadAllBytesAsync(data));
            await using (
                var source = await VirtualMachine.StartAsync(
                    machine with
                    {
                        ExtraArguments = [.. machine.ExtraArguments, .. Arguments(system, "raw", data, "raw")],
                    }
                )
            )
            {
                var result = await AgentProcess.RunAsync(
                    Patience,
                    "capture",
                    "--qmp",
                    source.QmpSocket,
                    "--output",
                    made.Directory,
                    "--compression",
                    compression,
                    "--disks",
                    "none"
                );
                Assert.True(result.ExitCode == 0, result.ToString());
            }

            made.PutDisks(("system", system), ("data", data));
            File.Delete(system);
            File.Delete(data);
            return made;
        }
        catch
        {
            made.Dispose();
            throw;
        }
    }

    /// <summary>Arguments for the same machine's disks: one named by its drive, one by its device.</summary>
    public static string[] Arguments(string system, string systemFormat, string data, string dataFormat) =>
        [.. Disks.Drive("system", system, systemFormat), .. Disks.Node("data", data, dataFormat)];

    private void PutDisks(params (string Name, string Raw)[] disks)
    {
        var manifestPath = Path.Combine(Directory, "snapshot.json");
        var manifest = ManifestJson.Read(File.ReadAllBytes(manifestPath), manifestPath);
        List<ManifestFile> files = [.. manifest.Files.Where(f => !f.Name.StartsWith("disks/", StringComparison.Ordinal))];
        List<ManifestDisk> listed = [];
        var folder = Path.Combine(Directory, "disks");
        if (global::System.IO.Directory.Exists(folder))
            global::System.IO.Directory.Delete(folder, recursive: true);
        global::System.IO.Directory.CreateDirectory(folder);
        foreach (var (name, raw) in disks)
        {
            var path = Disks.Qcow2(folder, $"{name}.qcow2", raw);
            var bytes = File.ReadAllBytes(path);
            files.Add(new ManifestFile($"disks/{name}.qcow2", bytes.Length, $"sha256:{Convert.ToHexStringLower(SHA256.HashData(bytes))}"));
            listed.Add(
                new ManifestDisk
                {
                    Name = name,
                    File = $"disks/{name}.qcow2",
                    Format = "qcow2",
                    VirtualSize = new FileInfo(raw).Length,
                    DataBytes = bytes.Length,
                    StoredBytes = bytes.Length,
                    Method = "copy-before-write",
                    Image = new ManifestImage
                    {
                        Driver = "raw",
                        Filename = raw,
                        Uid = 107,
                        Gid = 108,
                        Mode = "0640",
                    },
                }
            );
        }

        // A disk that is only recorded: there is nothing to restore for it, and no target needs it.
        listed.Add(
            new ManifestDisk
            {
                Name = "cd",
                Note = "read-only",
                ReadOnly = true,
            }
        );
        File.WriteAllBytes(manifestPath, ManifestJson.Write(manifest with { Disks = listed, Files = files }));
    }

    public void Dispose() => global::System.IO.Directory.Delete(Folder, recursive: true);
}
