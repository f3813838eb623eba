using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>
/// A foreign external snapshot of a disk in the middle of a capture: a new image above the node that QEMU shows as the disk's at that
/// moment.
/// </summary>
internal static class ExternalSnapshot
{
    /// <returns>The image that the machine writes to from now on; null: QEMU refused.</returns>
    public static async Task<string?> TakeAsync(VirtualMachine vm, int number)
    {
        var image = Path.Combine(vm.Folder, Invariant($"overlay-{number}.qcow2"));
        try
        {
            await vm.Qmp.ExecuteAsync(
                "blockdev-snapshot-sync",
                new()
                {
                    ["node-name"] = await NodeAsync(vm),
                    ["snapshot-node-name"] = Invariant($"overlay-{number}"),
                    ["snapshot-file"] = image,
                    ["format"] = "qcow2",
                }
            );
            return image;
        }
        catch (QmpErrorException)
        {
            return null;
        }
    }

    /// <summary>
    /// Asserts that an image names its backing file as the machine's next start needs it: a file that exists, in a valid format.
    /// </summary>
    public static async Task NamesWhatIsBelowAsync(string image, string after)
    {
        var text = await Tool.RunAsync("qemu-img", "info", "-U", "--output=json", image);
        var info = JsonSerializer.Deserialize<JsonElement>(text);
        var format = info.TryGetProperty("backing-filename-format", out var f) ? f.GetString() : null;
        var below = info.TryGetProperty("full-backing-filename", out var b) ? b.GetString() : null;
        if (format is not ("raw" or "qcow2" or "file" or "host_device") || below is null || !File.Exists(below))
        {
            throw new ViolationException(
                Promise.OthersHarmed,
                $"after {after}: another's snapshot {image} is over '{below}' of format '{format}': its machine does not start again"
            );
        }
    }

    /// <summary>The node that the first disk's device uses, as any client sees it.</summary>
    private static async Task<string> NodeAsync(VirtualMachine vm)
    {
        var name = vm.Options.Disks[0].Name;
        foreach (var block in (await vm.Qmp.ExecuteAsync("query-block")).EnumerateArray())
        {
            var device = block.GetProperty("device").GetString();
            var path = block.TryGetProperty("qdev", out var q) ? q.GetString()! : "";
            if ((device == name || path.Split('/').Contains(name)) && block.TryGetProperty("inserted", out var inserted))
                return inserted.GetProperty("node-name").GetString()!;
        }

        throw new InvalidOperationException($"QEMU shows no disk {name}");
    }
}
