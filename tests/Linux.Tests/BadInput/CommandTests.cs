using System.Net.Sockets;
using System.Text;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Linux.Tests.BadInput;

/// <summary>The agent refuses what cannot work with an exit code, a reason and one sentence, and the guest runs on.</summary>
public sealed class CommandTests : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120);
    private readonly string _folder = Directory.CreateTempSubdirectory("bgsnap-bad-input-").FullName;
    private VirtualMachine? _machine;

    private string Output => Path.Combine(_folder, "output");

    public Task InitializeAsync()
    {
        File.SetUnixFileMode(_folder, (UnixFileMode)0b111_111_111);
        return Task.CompletedTask;
    }

    public async Task DisposeAsync()
    {
        if (_machine is not null)
            await _machine.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [SkippableFact]
    public Task A_socket_that_does_not_exist() =>
        FailsAsync(6, "QemuUnreachable", "No such file", "--qmp", Path.Combine(_folder, "none"), "-o", Output);

    [SkippableFact]
    public async Task A_file_that_nobody_listens_on()
    {
        var path = Path.Combine(_folder, "file");
        await File.WriteAllTextAsync(path, "");
        await FailsAsync(6, "QemuUnreachable", "Connection refused", "--qmp", path, "-o", Output);
    }

    [SkippableTheory]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n", "does not speak QMP")]
    [InlineData("{\"hello\": 1}\r\n", "does not speak QMP")]
    [InlineData("", "no QMP greeting")]
    public async Task A_socket_of_something_else(string greeting, string sentence)
    {
        using var server = new FakeQmp(_folder, greeting, _ => null);
        await FailsAsync(6, "QemuUnreachable", sentence, "--qmp", server.Path, "-o", Output);
    }

    [SkippableFact]
    public async Task A_QEMU_that_hangs_up_in_the_middle()
    {
        using var server = new FakeQmp(_folder, FakeQmp.Greeting, command => command == "qmp_capabilities" ? FakeQmp.Empty : null);
        await FailsAsync(6, "QemuUnreachable", "it has ended", "--qmp", server.Path, "-o", Output);
    }

    [SkippableFact]
    public async Task A_QEMU_without_a_command_that_is_needed()
    {
        using var server = new FakeQmp(_folder, FakeQmp.Greeting, command =>
            command == "qmp_capabilities" ? FakeQmp.Empty : FakeQmp.CommandNotFound
        );
        await FailsAsync(3, "QemuTooOld", "lacks a command", "--qmp", server.Path, "-o", Output);
    }

    /// <summary>A usage error prints one sentence and a pointer to the help on standard error; standard output is for scripts.</summary>
    [SkippableTheory]
    [InlineData("Required argument missing for option: '--qmp'", "capture --help", "capture", "-o", "x", "--qmp")]
    [InlineData("'--qmp'", "capture --help", "capture", "-o", "x", "--qmp", "a", "--qmp", "b")]
    [InlineData("'--pid'", "restore --help", "restore", "x", "--pid", "many")]
    [InlineData("'--bogus'", "capture --help", "capture", "-o", "x", "--qmp", "a", "--bogus")]
    [InlineData("no QEMU is named", "capture --help", "capture", "-o", "x")]
    [InlineData("exclude each other", "inspect --help", "inspect", "x", "--json", "--domain-xml")]
    [InlineData("--format", "export --help", "export", "x", "-o", "y", "--format", "raw")]
    public async Task What_a_command_does_not_take(string sentence, string help, params string[] arguments)
    {
        var result = await AgentProcess.RunAsync(Patience, arguments);

        Assert.True(result.ExitCode == 2, result.ToString());
        Assert.Contains(sentence, result.StandardError, StringComparison.Ordinal);
        Assert.Contains(help, result.StandardError, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.StandardError, StringComparison.Ordinal);
        Assert.Empty(result.StandardOutput);
    }

    [SkippableTheory]
    [InlineData("inspect")]
    [InlineData("verify")]
    public async Task A_directory_that_is_no_snapshot(string command)
    {
        await File.WriteAllTextAsync(Path.Combine(_folder, "notes.txt"), "x");

        var result = await AgentProcess.RunAsync(Patience, command, "--json", _folder);

        Assert.True(result.ExitCode == 3, result.ToString());
        Assert.Contains("SnapshotNotFound", result.StandardOutput, StringComparison.Ordinal);
        Assert.Contains("is not a snapshot", result.StandardOutput, StringComparison.Ordinal);
    }

    /// <summary>A tenant controls such a QEMU. The agent ends only that capture, with a reason and without a stack trace.</summary>
    [SkippableTheory]
    [InlineData("{}")]
    [InlineData("{\"return\":{}}")]
    [InlineData("{\"return\":[]}")]
    [InlineData("{\"return\":[{}]}")]
    [InlineData("{\"return\":5}")]
    [InlineData("{\"return\":null}")]
    [InlineData("{\"return\":\"text\"}")]
    public async Task A_QEMU_that_answers_oddly(string answer)
    {
        using var server = new FakeQmp(_folder, FakeQmp.Greeting, command =>
            command == "qmp_capabilities" ? FakeQmp.Empty : answer + "\r\n"
        );
        await FailsAsync(1, "QemuAnswersOddly", "QEMU gave an invalid answer", "--qmp", server.Path, "-o", Output);
    }

    [SkippableFact]
    public async Task Outputs_that_cannot_be_made()
    {
        var qmp = await StartAsync();
        Directory.CreateDirectory(Output);
        await FailsAsync(3, "OutputExists", "File exists", "--qmp", qmp, "-o", Output);
        await FailsAsync(1, "SystemCallFailed", "No such file", "--qmp", qmp, "-o", Path.Combine(_folder, "missing", "output"));
        await FailsAsync(2, "BadArgument", "begin with a dot", "--qmp", qmp, "-o", Path.Combine(_folder, ".hidden"));
        await FailsAsync(3, "ProcessNotFound", "no process", "--qmp", qmp, "-o", Path.Combine(_folder, "o"), "--pid", "4194000");
    }

    [SkippableFact]
    public async Task An_output_volume_that_fills_up()
    {
        var qmp = await StartAsync();
        var small = Path.Combine(_folder, "small");
        Directory.CreateDirectory(small);
        await RunAsync("mount", "-t", "tmpfs", "-o", "size=128k", "bgsnap-test", small);
        try
        {
            await FailsAsync(1, "TargetFull", "volume is full", "--qmp", qmp, "-o", Path.Combine(small, "output"));
            Assert.Empty(Directory.EnumerateFileSystemEntries(small));
        }
        finally
        {
            await RunAsync("umount", small);
        }
    }

    [SkippableFact]
    public async Task An_agent_without_rights_says_what_it_lacks()
    {
        var qmp = await StartAsync();
        File.SetUnixFileMode(qmp, (UnixFileMode)0b110_110_110);
        await FailsAsync(
            4,
            "EngineUnavailable",
            "run as root",
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
            ["--engine", "agent", "--qmp", qmp, "-o", Output]
        );
    }

    [SkippableFact]
    public async Task A_machine_that_denies_ptrace_has_no_agent_engine()
    {
        var qmp = await StartAsync();
        await FailsAsync(
            4,
            "EngineUnavailable",
            "ptrace is denied",
            ["env", "BGSNAP_TEST_HOOK=deny:ptrace"],
            ["--engine", "agent", "--qmp", qmp, "-o", Output]
        );
    }

    [SkippableTheory]
    [InlineData("--wrong", "1", "--wrong")]
    [InlineData("--engine", "fast", "fast")]
    [InlineData("--compression", "rar", "rar")]
    [InlineData("--bandwidth-limit", "much", "invalid size 'much'")]
    [InlineData("--bandwidth-limit", "-5Mi", "-5Mi")]
    [InlineData("--stage-memory", "1Mi", "at least 48Mi")]
    [InlineData("--stage-memory", "1e9999Gi", "1e9999Gi")]
    [InlineData("--max-downtime", "3", "invalid time '3'")]
    [InlineData("--max-downtime", "-1s", "-1s")]
    [InlineData("--pid", "x", "x")]
    [InlineData("--domain", "db", "--libvirt and --domain belong together")]
    [InlineData("--libvirt", "qemu:///system", "--qmp and --libvirt exclude each other")]
    public async Task Words_that_are_not_understood(string option, string value, string sentence)
    {
        var result = await RunAsync(TestFiles.Agent, "capture", "--qmp", "none", "-o", "none", option, value);
        Assert.True(result.ExitCode == 2, result.ToString());
        Assert.Contains(sentence, result.StandardError, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.StandardError, StringComparison.Ordinal);
    }

    [SkippableTheory]
    [InlineData("no QEMU is named")]
    [InlineData("no QEMU is named", "--domain", "db")]
    [InlineData("belong together", "--libvirt", "qemu:///system")]
    [InlineData("'x'", "--pid", "x")]
    public async Task A_capture_of_nobody(string sentence, params string[] which)
    {
        var result = await RunAsync([TestFiles.Agent, "capture", "-o", "none", .. which]);
        Assert.True(result.ExitCode == 2, result.ToString());
        Assert.Contains(sentence, result.StandardError, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.StandardError, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Help_lists_every_command_and_option()
    {
        var root = await RunAsync(TestFiles.Agent, "--help");
        foreach (var command in (string[])["capture", "restore", "export", "inspect", "verify"])
        {
            Assert.Contains(command, root.StandardOutput, StringComparison.Ordinal);
            Assert.Equal(0, (await RunAsync(TestFiles.Agent, command, "--help")).ExitCode);
        }

        var capture = await RunAsync(TestFiles.Agent, "capture", "--help");
        foreach (
            var option in (string[])
                [
                    "--qmp",
                    "--libvirt",
                    "--domain",
                    "--output",
                    "--pid",
                    "--engine",
                    "--compression",
                    "--bandwidth-limit",
                    "--stage-memory",
                    "--max-downtime",
                    "--json",
                ]
        )
            Assert.Contains(option, capture.StandardOutput, StringComparison.Ordinal);
        Assert.DoesNotContain("--worker", capture.StandardOutput, StringComparison.Ordinal);
    }

    // The descriptions name the defaults as a user writes them; the parser would add its own form of the value: [default: 536870912].
    [SkippableTheory]
    [InlineData("capture", "--stage-memory", "512Mi")]
    [InlineData("capture", "--scratch-limit", "10Gi")]
    [InlineData("capture", "--quiesce-timeout", "10s")]
    [InlineData("restore", "--mode", "auto (default)")]
    [InlineData("export", "--format", "(default: qcow2)")]
    [InlineData("inspect", "DIR", "")]
    [InlineData("verify", "DIR", "")]
    public async Task Help_names_each_default_once_and_as_a_user_writes_it(string command, string option, string written)
    {
        var help = (await RunAsync(TestFiles.Agent, command, "--help")).StandardOutput;
        Assert.DoesNotContain("[default:", help, StringComparison.Ordinal);
        Assert.Contains(written, help.Split('\n').First(l => l.Contains(option, StringComparison.Ordinal)), StringComparison.Ordinal);
    }

    private async Task<string> StartAsync()
    {
        _machine = await Requirements.StartAsync(new VirtualMachineOptions { MemoryMiB = 32, Guest = new FirmwareGuest() });
        return _machine.QmpSocket;
    }

    private Task FailsAsync(int code, string reason, string sentence, params string[] arguments) =>
        FailsAsync(code, reason, sentence, [], arguments);

    /// <summary>Runs it once as a script would, which reads the reason, and once as a person would, who reads one sentence.</summary>
    private async Task FailsAsync(int code, string reason, string sentence, string[] wrapper, string[] arguments)
    {
        Requirements.NeedRoot();
        var script = await RunAsync([.. wrapper, TestFiles.Agent, "capture", "--json", .. arguments]);
        var error = CaptureFamily.ErrorOf(script);
        Assert.True(script.ExitCode == code && error?.Reason == reason && error.ExitCode == code, script.ToString());

        var person = await RunAsync([.. wrapper, TestFiles.Agent, "capture", .. arguments]);
        Assert.True(person.ExitCode == code, person.ToString());
        var line = Assert.Single(person.StandardError.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("bgsnap-agent: ", line, StringComparison.Ordinal);
        Assert.Contains(sentence, line, StringComparison.Ordinal);
        if (_machine is not null)
            Assert.Equal("running", await _machine.Qmp.RunStateAsync());
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(_folder), name => name.Contains("partial", StringComparison.Ordinal));
    }

    private static async Task<AgentResult> RunAsync(params string[] line)
    {
        await using var process = await GuardedProcess.StartAsync(line);
        var code = await process.Exit.WaitAsync(Patience);
        return new AgentResult(code, process.StandardOutput, process.StandardError, default);
    }
}

/// <summary>A listener that answers each command with one line, or hangs up.</summary>
internal sealed class FakeQmp : IDisposable
{
    public const string Greeting =
        "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":2,\"major\":7},\"package\":\"\"},\"capabilities\":[]}}\r\n";
    public const string Empty = "{\"return\":{}}\r\n";
    public const string CommandNotFound = "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command has not been found\"}}\r\n";

    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly string _greeting;
    private readonly Func<string, string?> _answer;

    public FakeQmp(string folder, string greeting, Func<string, string?> answer)
    {
        (_greeting, _answer) = (greeting, answer);
        Path = System.IO.Path.Combine(folder, "fake");
        _listener.Bind(new UnixDomainSocketEndPoint(Path));
        _listener.Listen(8);
        _ = Task.Run(AcceptAsync);
    }

    public string Path { get; }

    public void Dispose() => _listener.Dispose();

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
                _ = ServeAsync(await _listener.AcceptAsync());
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task ServeAsync(Socket client)
    {
        using (client)
        {
            try
            {
                if (_greeting.Length > 0)
                    await client.SendAsync(Encoding.UTF8.GetBytes(_greeting));
                using var reader = new StreamReader(new NetworkStream(client));
                while (await reader.ReadLineAsync() is { } line)
                {
                    var command = line.Split('"') is { Length: > 3 } parts ? parts[3] : "";
                    if (_answer(command) is not { } answer)
                        return;
                    await client.SendAsync(Encoding.UTF8.GetBytes(answer));
                }
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                // The client has disconnected.
            }
        }
    }
}
