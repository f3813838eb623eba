using System.Diagnostics;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Bgsnap.Linux.Tests.Streams;

/// <summary>A stock QEMU of the machine under test, with a QMP socket; disposing kills it.</summary>
internal sealed class StreamTestQemu : IDisposable
{
    /// <summary>The installed QEMU, or the one that BGSNAP_TEST_QEMU names.</summary>
    public static readonly string Program = Environment.GetEnvironmentVariable("BGSNAP_TEST_QEMU") ?? "/usr/bin/qemu-system-x86_64";

    private readonly Process _process;
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly StreamReader _reader;

    public StreamTestQemu(string directory, string name, IEnumerable<string> arguments)
    {
        string path = Path.Combine(directory, name + ".qmp");
        var start = new ProcessStartInfo(Program) { RedirectStandardError = true };
        string[] common = ["-display", "none", "-nodefaults", "-serial", "none", "-qmp", $"unix:{path},server=on,wait=off"];
        foreach (string argument in common.Concat(arguments))
            start.ArgumentList.Add(argument);
        _process = Process.Start(start)!;
        try
        {
            Connect(path);
            _reader = new StreamReader(new NetworkStream(_socket));
            _reader.ReadLine();
            Execute("qmp_capabilities");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Status => Execute("query-status")["status"]!.GetValue<string>();

    public string MachineType =>
        Execute("qom-get", new() { ["path"] = "/machine", ["property"] = "type" })
            .GetValue<string>()
            .Replace("-machine", "", StringComparison.Ordinal);

    public JsonNode Execute(string command, JsonObject? arguments = null)
    {
        var request = new JsonObject { ["execute"] = command };
        if (arguments is not null)
            request["arguments"] = arguments;
        _socket.Send(JsonSerializer.SerializeToUtf8Bytes<JsonNode>(request));
        while (true)
        {
            string line = _reader.ReadLine()
                ?? throw new IOException($"QEMU went away during {command}: {_process.StandardError.ReadToEnd()}");
            JsonNode answer = JsonNode.Parse(line)!;
            if (answer["return"] is { } result)
                return result;
            if (answer["error"] is { } error)
                throw new IOException($"{command}: {error.ToJsonString()}");
        }
    }

    public void Migrate(string file, bool background = false)
    {
        Execute(
            "migrate-set-capabilities",
            new() { ["capabilities"] = new JsonArray(new JsonObject { ["capability"] = "background-snapshot", ["state"] = background }) }
        );
        Execute("migrate", new() { ["uri"] = $"exec:cat > {file}" });
        Wait(() =>
        {
            string status = Execute("query-migrate")["status"]!.GetValue<string>();
            Assert.NotEqual("failed", status);
            return status == "completed";
        });
    }

    public void SaveDeviceState(string file) => Execute("xen-save-devices-state", new() { ["filename"] = file, ["live"] = false });

    public byte[] DumpMemory(string file, long bytes)
    {
        Execute(
            "pmemsave",
            new()
            {
                ["val"] = 0,
                ["size"] = bytes,
                ["filename"] = file,
            }
        );
        return File.ReadAllBytes(file);
    }

    public void WaitForStatus(string wanted) => Wait(() => Status == wanted);

    public void Dispose()
    {
        _socket.Dispose();
        if (!_process.HasExited)
            _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static void Wait(Func<bool> condition)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), "QEMU did not get there in a minute");
            Thread.Sleep(20);
        }
    }

    private void Connect(string path)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                _socket.Connect(new UnixDomainSocketEndPoint(path));
                return;
            }
            catch (SocketException) when (!_process.HasExited && clock.Elapsed < TimeSpan.FromSeconds(20))
            {
                Thread.Sleep(20);
            }
        }
    }
}
