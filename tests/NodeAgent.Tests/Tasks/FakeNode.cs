using System.Diagnostics;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.NodeAgent.Tasks;
using Bgsnap.NodeAgent.Tests.Store;
using Bgsnap.SnapshotFormat.Store;
using k8s.Models;

namespace Bgsnap.NodeAgent.Tests.Tasks;

/// <summary>
/// A node in a directory: its processes with their cgroups and roots, a carrier pod with a claim, a pod that runs a VM, and a program
/// that stands in for the capturing process.
/// </summary>
internal sealed class FakeNode : IDisposable
{
    internal const string Name = "node-1",
        Vm = "vm",
        Carrier = "carrier";
    private readonly TempDirectory _directory = new();
    private int _pid = 100;

    internal FakeNode()
    {
        Directory.CreateDirectory(Proc);
        Claim = Path.Join(AddPod(Carrier, Names.CarrierContainer), "snapshots");
        Directory.CreateDirectory(Claim);
        VmRoot = AddPod(Vm, "qemu");
        Directory.CreateDirectory(Path.Join(VmRoot, "run"));
        File.WriteAllText(Path.Join(VmRoot, "run", "qmp.sock"), "");
    }

    internal TaskApi Api { get; } = new();
    internal string Proc => _directory.Sub("proc");
    internal string Program => _directory.Sub("capture");

    /// <summary>
    /// The program's script for freeing a guest; set it before <see cref="Capture"/>. Each run adds a line to the file "freed".
    /// </summary>
    internal string Free { get; set; } = Freed;

    internal const string Freed = "echo '{\"type\":\"summary\",\"guest\":\"the guest runs\",\"removed\":0,\"thawed\":false}'";

    /// <summary>How often the program was to free a guest.</summary>
    internal int TimesFreed => File.Exists(Sign("freed")) ? File.ReadAllLines(Sign("freed")).Length : 0;

    /// <summary>The directory of the carrier's claim.</summary>
    internal string Claim { get; }

    /// <summary>The VM's root directory.</summary>
    internal string VmRoot { get; }

    internal TaskResources Places => new(Api, Name, Proc);

    internal static string UidOf(string pod) => $"{pod}-1111-2222";

    internal static string IdOf(string pod) =>
        Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(pod)));

    /// <summary>Adds a pod that runs on this node; returns the root directory of its process.</summary>
    internal string AddPod(string name, string container, string cgroup = "0::/kubepods/burstable/pod{0}/{1}")
    {
        Api.Pods[name] = new PodSummary
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = "ns",
                Uid = UidOf(name),
            },
            Spec = new PodSpecSummary { NodeName = Name },
            Status = new PodStatusSummary
            {
                Phase = "Running",
                ContainerStatuses =
                [
                    new ContainerStatusSummary
                    {
                        Name = container,
                        ContainerID = "containerd://" + IdOf(name),
                        State = new ContainerStateSummary { Running = new ContainerStateDetail() },
                    },
                ],
            },
        };
        return AddProcess(string.Format(System.Globalization.CultureInfo.InvariantCulture, cgroup, UidOf(name), IdOf(name)));
    }

    internal string AddProcess(string cgroup)
    {
        string process = Path.Join(Proc, $"{_pid++}"),
            root = Path.Join(process, "root");
        Directory.CreateDirectory(root);
        File.WriteAllText(Path.Join(process, "cgroup"), cgroup + "\n");
        return root;
    }

    internal static PodTarget Target(string pod, string container) =>
        new()
        {
            PodName = pod,
            PodUID = UidOf(pod),
            Container = container,
        };

    internal static VirtualMachineTarget VmTarget(string socket = "/run/qmp.sock") =>
        new()
        {
            PodName = Vm,
            PodUID = UidOf(Vm),
            Container = "qemu",
            QmpSocket = socket,
        };

    internal static SnapshotTask CaptureTask(string name = "t") =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = "ns",
                Uid = "uid-" + name,
            },
            Spec = new SnapshotTaskSpec
            {
                NodeName = Name,
                Directory = "snap",
                Carrier = Target(Carrier, Names.CarrierContainer),
                Source = VmTarget(),
            },
        };

    /// <summary>Writes a finished snapshot, as a capture leaves it.</summary>
    internal static Manifest WriteSnapshot(string path) => GuestSnapshot.Write(path, GuestSnapshot.Small(), PageCompression.None);

    /// <summary>
    /// Sets the capturing process's shell script; <c>$out</c> is the directory that it should create, <c>$ready</c> one that it may move
    /// there.
    /// </summary>
    internal void Capture(string script)
    {
        string ready = _directory.Sub("ready");
        if (!Directory.Exists(ready))
            WriteSnapshot(ready);
        // Another process writes the file: this process could not execute a file that it has open for writing.
        using Process shell = Process.Start(
            new ProcessStartInfo("/bin/sh", ["-c", "cat >\"$0\" && chmod +x \"$0\"", Program]) { RedirectStandardInput = true }
        )!;
        shell.StandardInput.Write(
            $$"""
            #!/bin/sh
            ready='{{ready}}' here='{{_directory.Path}}'
            for argument; do case $argument in --output=*) out=${argument#--output=} ;; esac; done
            if [ "$1" = free ]; then
              echo >>"$here/freed"
              {{Free}}
              exit 0
            fi
            echo "$@" >"$here/arguments"
            {{script}}
            """
        );
        shell.StandardInput.Close();
        shell.WaitForExit();
        Assert.Equal(0, shell.ExitCode);
    }

    /// <summary>A file by which the capturing process and the test signal each other.</summary>
    internal string Sign(string name) => _directory.Sub(name);

    internal static string Progress(int percent, string? pointInTime = null) =>
        $$"""{"type":"progress","phase":"Copying","percent":{{percent}},"copiedBytes":{{percent}}000000,"totalBytes":100000000,"pendingBytes":0,"writtenBytes":0,"bytesPerSecond":1,"faults":0{{(pointInTime is null ? "" : $",\"pointInTime\":\"{pointInTime}\"")}}}""";

    internal const string Summary =
        """{"type":"summary","summary":{"output":"x","pointInTime":"2026-08-01T09:00:00Z","engine":"agent","engineReason":"asked for","downtimeMicroseconds":1,"protectionWindowMicroseconds":2,"totalMicroseconds":3,"faults":4,"ramBytes":5,"storedBytes":6,"timeline":[]}}""";

    internal static string Error(string reason, string message) =>
        $$"""{"type":"error","reason":"{{reason}}","message":"{{message}}","exitCode":1}""";

    internal static async Task Within(Func<bool> condition, string what)
    {
        for (int i = 0; i < 6000; i++, await Task.Delay(5))
            if (condition())
                return;
        Assert.Fail($"after 30 s still not: {what}");
    }

    public void Dispose() => _directory.Dispose();
}
