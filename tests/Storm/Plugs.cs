using System.Text.Json.Nodes;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>Memory and a disk that a user plugs into a running machine and unplugs again.</summary>
internal sealed class Plugs(VirtualMachine vm, bool q35)
{
    /// <summary>Names that a snapshot contains if they were plugged in.</summary>
    public const string MemoryBackend = "plugged-memory",
        Disk = "plugged-disk";

    private const string Dimm = "plugged-dimm",
        DiskNode = "plugged-node",
        RootPort = "plugged-port";
    private const int MemoryMiB = 128,
        DiskMiB = 16;
    private static readonly TimeSpan GuestLimit = TimeSpan.FromSeconds(4);

    /// <summary>The arguments that the machine needs.</summary>
    public static IEnumerable<string> Arguments(string machine) =>
        [
            "-m",
            "slots=4,maxmem=4G",
            .. machine == "q35" ? ["-device", $"pcie-root-port,id={RootPort},chassis=30,slot=30"] : Array.Empty<string>(),
        ];

    /// <summary>The same devices as arguments of a machine that will load a snapshot.</summary>
    public static IEnumerable<string> ArgumentsOf(string machine, bool memory, string? diskImage) =>
        [
            .. memory
                ?
                [
                    "-object",
                    $"memory-backend-ram,id={MemoryBackend},size={MemoryMiB}M",
                    "-device",
                    $"pc-dimm,id={Dimm},memdev={MemoryBackend}",
                ]
                : Array.Empty<string>(),
            .. diskImage is not null
                ?
                [
                    "-blockdev",
                    $"driver=file,filename={diskImage},node-name={DiskNode}",
                    "-device",
                    $"virtio-blk-pci,id={Disk},drive={DiskNode}{(machine == "q35" ? $",bus={RootPort}" : "")}",
                ]
                : Array.Empty<string>(),
        ];

    public static void MakeImage(string path)
    {
        using (var file = File.OpenHandle(path, FileMode.Create, FileAccess.Write))
            RandomAccess.SetLength(file, (long)DiskMiB << 20);
        File.SetUnixFileMode(path, (UnixFileMode)0b110_110_110);
    }

    public async Task<string> PlugMemoryAsync()
    {
        JsonObject backend = new()
        {
            ["qom-type"] = "memory-backend-ram",
            ["id"] = MemoryBackend,
            ["size"] = (long)MemoryMiB << 20,
        };
        if (!await TryAsync("object-add", backend))
            return "refused";
        if (
            await TryAsync(
                "device_add",
                new()
                {
                    ["driver"] = "pc-dimm",
                    ["id"] = Dimm,
                    ["memdev"] = MemoryBackend,
                }
            )
        )
            return "done";
        await TryAsync("object-del", new() { ["id"] = MemoryBackend });
        return "refused";
    }

    public async Task<string> UnplugMemoryAsync() =>
        !await GoneAsync(Dimm) ? "refused"
        : await TryAsync("object-del", new() { ["id"] = MemoryBackend }) ? "done"
        : "object stays";

    public async Task<string> PlugDiskAsync()
    {
        var image = Path.Combine(vm.Folder, "plugged.img");
        MakeImage(image);
        if (
            !await TryAsync(
                "blockdev-add",
                new()
                {
                    ["driver"] = "file",
                    ["filename"] = image,
                    ["node-name"] = DiskNode,
                }
            )
        )
            return "refused";
        JsonObject device = new()
        {
            ["driver"] = "virtio-blk-pci",
            ["id"] = Disk,
            ["drive"] = DiskNode,
        };
        if (q35)
            device["bus"] = RootPort;
        if (await TryAsync("device_add", device))
            return "done";
        await TryAsync("blockdev-del", new() { ["node-name"] = DiskNode });
        return "refused";
    }

    public async Task<string> UnplugDiskAsync() =>
        !await GoneAsync(Disk) ? "refused"
        : await TryAsync("blockdev-del", new() { ["node-name"] = DiskNode }) ? "done"
        : "node stays";

    /// <summary>Unplugs what a capture kept from being unplugged; if that fails, something of the capture still holds it.</summary>
    public async Task TidyAsync(string after)
    {
        if (!await HasAsync(Disk) && await NodesAsync() is var nodes && nodes.Contains(DiskNode))
        {
            if (!await TryAsync("blockdev-del", new() { ["node-name"] = DiskNode }))
                throw new ViolationException(Promise.Leftover, $"after {after}: the disk that was unplugged is still held: {_lastRefusal}");
        }

        if (!await HasAsync(Dimm))
            await TryAsync("object-del", new() { ["id"] = MemoryBackend });
    }

    private string _lastRefusal = "";

    /// <summary>Asks the guest to release the device, and waits for a moment: the guest may be booting, paused, or unwilling.</summary>
    private async Task<bool> GoneAsync(string device)
    {
        if (!await TryAsync("device_del", new() { ["id"] = device }))
            return false;
        for (var end = DateTime.UtcNow + GuestLimit; DateTime.UtcNow < end; await Task.Delay(50))
        {
            if (!await HasAsync(device))
                return true;
        }

        return false;
    }

    private Task<bool> HasAsync(string device) => TryAsync("qom-list", new() { ["path"] = $"/machine/peripheral/{device}" });

    private async Task<IReadOnlyList<string>> NodesAsync() =>
        [
            .. (await vm.Qmp.ExecuteAsync("query-named-block-nodes", new() { ["flat"] = true }))
                .EnumerateArray()
                .Select(n => n.GetProperty("node-name").GetString()!),
        ];

    private async Task<bool> TryAsync(string command, JsonObject arguments)
    {
        try
        {
            await vm.Qmp.ExecuteAsync(command, arguments);
            return true;
        }
        catch (QmpErrorException e)
        {
            _lastRefusal = e.Message;
            return false;
        }
    }
}
