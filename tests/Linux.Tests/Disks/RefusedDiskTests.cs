using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Engine.Disks.Graph;
using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The agent refuses disks that it cannot capture as they are, before it touches the guest.</summary>
public class RefusedDiskTests
{
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task One_node_behind_two_devices_is_refused(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(
            Firmware(version) with
            {
                ExtraArguments =
                [
                    "-blockdev",
                    "driver=null-co,node-name=shared,size=1048576",
                    // Otherwise the firmware might switch a write cache off when it finds the disks, between our two looks.
                    "-device",
                    "virtio-blk-pci,drive=shared,id=path1,share-rw=on,write-cache=off",
                    "-device",
                    "virtio-blk-pci,drive=shared,id=path2,share-rw=on,write-cache=off",
                ],
            }
        );
        var before = await BlockGraph.BlocksAsync(question => vm.Qmp.ExecuteAsync(question));

        var refused = await Agent.TryCaptureAsync(vm, "s", null);

        Assert.Equal(("DiskShared", 3), (refused.Error?.Reason, refused.Error?.ExitCode));
        Assert.All(["path1", "path2", "shared"], name => Assert.Contains(name, refused.Error!.Message, StringComparison.Ordinal));
        Assert.DoesNotContain(vm.Qmp.Events, e => e.Name == "STOP");
        Assert.Equal(before, await BlockGraph.BlocksAsync(question => vm.Qmp.ExecuteAsync(question)));
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System, false)]
    [InlineData(QemuVersion.Unpacked10, false)]
    [InlineData(QemuVersion.Unpacked10, true)]
    public async Task An_encrypted_disk_is_stored_decrypted_only_when_that_is_asked_for(QemuVersion version, bool behindFilter)
    {
        using TestImage image = new();
        string[] key = ["--object", "secret,id=s,data=abc", "-o", "key-secret=s,iter-time=10"];
        await Tool.RunAsync("qemu-img", ["create", "-q", "-f", "luks", .. key, image.Path, "1M"]);
        await using var vm = await Requirements.StartAsync(
            Firmware(version) with
            {
                ExtraArguments =
                [
                    "-object",
                    "secret,id=s,data=abc",
                    "-object",
                    "throttle-group,id=slow",
                    "-blockdev",
                    $"driver=luks,node-name=crypt,key-secret=s,file.driver=file,file.filename={image.Path}",
                    .. behindFilter
                        ? ["-blockdev", "driver=throttle,node-name=slow,throttle-group=slow,file=crypt"]
                        : Array.Empty<string>(),
                    "-device",
                    $"virtio-blk-pci,drive={(behindFilter ? "slow" : "crypt")},id=vda",
                ],
            }
        );

        var refused = await Agent.TryCaptureAsync(vm, "s", null);
        var taken = await Agent.CaptureAsync(vm, "s", "--decrypt-disks");

        Assert.Equal(("DiskEncrypted", 3), (refused.Error?.Reason, refused.Error?.ExitCode));
        Assert.Contains("vda", refused.Error!.Message, StringComparison.Ordinal);
        using var manifest = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(taken.Output, "snapshot.json")));
        Assert.True(Assert.Single(manifest.RootElement.GetProperty("disks").EnumerateArray()).GetProperty("decrypted").GetBoolean());
        var shown = await AgentProcess.RunAsync(TimeSpan.FromSeconds(30), "inspect", taken.Output);
        Assert.Contains("stored decrypted", shown.StandardOutput, StringComparison.Ordinal);
    }

    /// <summary>A dead agent's note says that the NBD server may be ours, but somebody else has started one since.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_server_of_somebody_else_is_left_alone(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(DiskMachines.Writing(version, new TestDisk { Name = "vda" }));
        using (var qmp = QmpClient.Connect(vm.QmpSocket))
            QemuMark.Put(qmp, AgentNames.NbdServer);
        await vm.Qmp.ExecuteAsync(
            "nbd-server-start",
            new()
            {
                ["addr"] = new JsonObject
                {
                    ["type"] = "unix",
                    ["data"] = new JsonObject { ["path"] = Path.Combine(vm.Folder, "theirs.sock") },
                },
            }
        );

        var refused = await Agent.TryCaptureAsync(vm, "s", null);

        Assert.Equal(("NbdServerBusy", 3), (refused.Error?.Reason, refused.Error?.ExitCode));
        // The server runs; otherwise this command fails.
        await vm.Qmp.ExecuteAsync("nbd-server-stop");
        await DiskMachines.CaptureAgreesAsync(vm, "next");
    }

    private static VirtualMachineOptions Firmware(QemuVersion version) =>
        new()
        {
            Version = version,
            MemoryMiB = 64,
            Guest = new FirmwareGuest(),
        };

    private sealed class TestImage : IDisposable
    {
        private readonly string _folder = TestFolder.Create();

        internal string Path => System.IO.Path.Combine(_folder, "disk.luks");

        public void Dispose() => Directory.Delete(_folder, recursive: true);
    }
}
