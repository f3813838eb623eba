using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore;

/// <summary>
/// Data that the agent wrote past QEMU into an encrypted image would not be encrypted, and would destroy the header with the keys.
/// </summary>
public sealed class EncryptedTargetTests : SmallTargets
{
    private const string Luks = "driver=luks,key-secret=s,file.driver=file,file.filename=IMAGE";
    private const string Throttled =
        "driver=throttle,throttle-group=g," + "file.driver=luks,file.key-secret=s,file.file.driver=file,file.file.filename=IMAGE";

    private const string BelowRaw = "driver=raw,file.driver=luks,file.key-secret=s,file.file.driver=file,file.file.filename=IMAGE";
    private const string WithinQcow2 = "driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.driver=file,file.filename=IMAGE";

    [SkippableTheory]
    [InlineData(QemuVersion.System, Luks, "disk vda is encrypted (LUKS) in the target")]
    [InlineData(QemuVersion.Unpacked10, Luks, "disk vda is encrypted (LUKS) in the target")]
    [InlineData(QemuVersion.Unpacked10, Throttled, "disk vda is encrypted (LUKS) in the target")]
    [InlineData(QemuVersion.System, WithinQcow2, "disk vda is encrypted (LUKS) in the target")]
    [InlineData(QemuVersion.Unpacked10, WithinQcow2, "disk vda is encrypted (LUKS) in the target")]
    [InlineData(QemuVersion.System, BelowRaw, "disk vda ")]
    [InlineData(QemuVersion.Unpacked10, BelowRaw, "disk vda ")]
    public async Task An_encrypted_image_is_refused_and_stays_as_it_is(QemuVersion version, string node, string sentence)
    {
        var options = Firmware(version);
        var plain = Blockdev($"driver=raw,file.driver=file,file.filename={Image(1 << 20)}");
        var snapshot = await SnapshotAsync(options with { ExtraArguments = plain }, "all");
        var image = Path.Combine(Folder, "encrypted");
        string[] format =
            node == WithinQcow2
                ? ["qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"]
                : ["luks", "-o", "key-secret=s,iter-time=10"];
        await CreateAsync(["create", "-q", "--object", "secret,id=s,data=abc", "-f", .. format, image, "1M"]);
        var before = await File.ReadAllBytesAsync(image);
        await using var target = await VirtualMachine.StartAsync(
            Waiting(
                options,
                [
                    "-object",
                    "secret,id=s,data=abc",
                    "-object",
                    "throttle-group,id=g",
                    .. Blockdev(node.Replace("IMAGE", image, StringComparison.Ordinal)),
                ]
            )
        );

        var outcome = await RestoreOutcome.OfAsync(snapshot, target);

        await AssertRefusedAsync(outcome, target, "TargetDiffers", sentence);
        Assert.Equal(before, await File.ReadAllBytesAsync(image));
    }

    /// <summary>On a loaded host, qemu-img sometimes cannot measure how long a key takes, and fails.</summary>
    private static async Task CreateAsync(string[] arguments)
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                await Tool.RunAsync("qemu-img", arguments);
                return;
            }
            catch (InvalidOperationException e) when (tries < 10 && e.Message.Contains("CPU usage", StringComparison.Ordinal))
            {
                await Task.Delay(50);
            }
        }
    }

    private static string[] Blockdev(string node) => ["-blockdev", node + ",node-name=d", "-device", "virtio-blk-pci,drive=d,id=vda"];
}
