using System.Text.Json.Nodes;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>
/// A VirtualMachine as in KubeVirt, created by hand, because KubeVirt itself is not installed. Its pod has everything of a launcher that a
/// capture depends on, with a real libvirt and QEMU in it.
/// </summary>
public sealed class KubeVirtMachine(ClusterFixture cluster, Lab lab)
{
    public const string Name = "db",
        Pod = "virt-launcher-db-x2x4v",
        Target = "virt-launcher-db-9q5lw",
        Uuid = "5d307ca9-b3ef-428c-8861-06e72d69f223";

    private Kubectl Kubectl => cluster.Kubectl;

    /// <summary>Whether the cluster serves KubeVirt's kinds.</summary>
    public static async Task<bool> IsServedAsync(ClusterFixture cluster) =>
        (await cluster.Kubectl.TryAsync(null, "get", "--raw", "/apis/kubevirt.io/v1")).ExitCode == 0;

    /// <summary>Installs KubeVirt's kinds, as far as the tests need them, and the image that stands in for its launcher.</summary>
    public static async Task ServeAsync()
    {
        await ClusterFixture.LoadImagesAsync("test-launcher");
        await ClusterFixture.ScriptAsync(
            "hack/cluster",
            TimeSpan.FromMinutes(2),
            ["crds", .. Directory.GetFiles(Path.Join(Repository.Root, "tests", "launcher-pod", "crds"))]
        );
    }

    /// <summary>Creates a running VM, with the claim for its snapshots.</summary>
    public static async Task<(KubeVirtMachine Machine, string Claim)> RunningAsync(ClusterFixture cluster, Lab lab)
    {
        var claim = await lab.ClaimAsync();
        await ServeAsync();
        var machine = new KubeVirtMachine(cluster, lab);
        await machine.MakeAsync();
        await machine.StartAsync();
        return (machine, claim);
    }

    /// <summary>The YAML of a snapshot of it.</summary>
    public static string Snapshot(string name, string kind = "VirtualMachine", string more = "") =>
        Lab.Snapshot(name, Name, more: more)
            .Replace("apiGroup: \"\", kind: Pod", $"apiGroup: kubevirt.io, kind: {kind}", StringComparison.Ordinal);

    /// <summary>Creates the VM, stopped.</summary>
    public Task MakeAsync() =>
        lab.ApplyAsync(
            $$"""
            apiVersion: kubevirt.io/v1
            kind: VirtualMachine
            metadata: { name: {{Name}} }
            spec:
              runStrategy: Manual
              template:
                spec:
                  domain: { devices: { disks: [{ name: root, disk: { bus: virtio } }] } }
                  volumes: [{ name: root, persistentVolumeClaim: { claimName: db-root } }]
            status: { printableStatus: Stopped }
            """
        );

    /// <summary>Runs virsh in a launcher pod. It must succeed.</summary>
    public Task<string> VirshAsync(string pod, params string[] arguments) =>
        Kubectl.RunAsync([
            "-n",
            lab.Name,
            "exec",
            pod,
            "-c",
            "compute",
            "--",
            "/usr/bin/virsh",
            "-q",
            "-c",
            "qemu:///session?socket=/run/libvirt/libvirt-sock",
            .. arguments,
        ]);

    /// <summary>Starts the VM and waits until its guest counts.</summary>
    public async Task StartAsync()
    {
        await lab.ClaimAsync("db-root");
        var vm = await UidAsync("virtualmachine", Name);
        await lab.ApplyAsync(Instance(vm, status: null));
        var vmi = await UidAsync("virtualmachineinstance", Name);
        await lab.ApplyAsync(Launcher(Pod, Name, Uuid, lab.Name, vmi, "db-root"));
        await Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", $"pod/{Pod}", "--timeout=120s");
        var (uid, node) = await PlaceAsync(Pod);
        await lab.ApplyAsync(Instance(vm, $"{{ phase: Running, nodeName: {node}, activePods: {{ \"{uid}\": {node} }} }}"));
        await lab.CountsAsync(Pod);
    }

    /// <summary>Starts the pod to which the VM will migrate.</summary>
    public async Task StartTargetAsync()
    {
        var launcher = Launcher(Target, Name, Uuid, lab.Name, await UidAsync("virtualmachineinstance", Name), "db-root");
        await lab.ApplyAsync(
            launcher.Replace("- { name: VM_HOOKED, value: \"\" }", "- { name: VM_AWAITED, value: \"yes\" }", StringComparison.Ordinal)
        );
        await Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", $"pod/{Target}", "--timeout=120s");
        for (
            var end = DateTime.UtcNow + Lab.Soon;
            (
                await Kubectl.TryAsync(
                    null,
                    "-n",
                    lab.Name,
                    "exec",
                    Target,
                    "-c",
                    "compute",
                    "--",
                    "/usr/bin/virsh",
                    "-q",
                    "-c",
                    "qemu:///session?socket=/run/libvirt/virtqemud-sock",
                    "uri"
                )
            ).ExitCode != 0;
            await Task.Delay(200)
        )
            Assert.True(DateTime.UtcNow < end, "the target's libvirt does not answer");
        // libvirt probes its QEMU first, which takes as long as a capture.
        await VirshAsync(Target, "domcapabilities");
    }

    /// <summary>Migrates the domain, as virt-handler does through libvirt.</summary>
    /// <param name="from">The pod that it runs in.</param>
    /// <param name="to">The target pod.</param>
    /// <param name="mebibytesPerSecond">The bandwidth limit; 0: no limit.</param>
    public async Task MigrateAsync(string from, string to, int mebibytesPerSecond = 0)
    {
        var root = Path.Join(Repository.Root, "out", "deps", "libvirt", "usr");
        // By sockets on the claim that both pods mount: KubeVirt's proxies do not exist here.
        var migrated = await Command.RunAsync(
            Path.Join(root, "bin", "virsh"),
            [
                "-q",
                "-c",
                await UriAsync(from),
                "migrate",
                "--live",
                "--unsafe",
                "--bandwidth",
                $"{mebibytesPerSecond}",
                "--migrateuri",
                $"unix:///run/kubevirt-private/vmi-disks/root/migration-{to}",
                $"{lab.Name}_{Name}",
                await UriAsync(to),
            ],
            limit: TimeSpan.FromMinutes(2),
            environment: ("LD_LIBRARY_PATH", Path.Join(root, "lib", "x86_64-linux-gnu"))
        );
        migrated.Ok();
    }

    /// <summary>Removes the bandwidth limit of a migration under way.</summary>
    public Task HurryAsync(string from) => VirshAsync(from, "migrate-setspeed", $"{lab.Name}_{Name}", "4000");

    /// <summary>Records, as KubeVirt does, where the domain runs now.</summary>
    public async Task MovedAsync(string pod)
    {
        var (uid, node) = await PlaceAsync(pod);
        await ChangeAsync($$$"""{"status":{"activePods":null}}""");
        await ChangeAsync(
            $$$"""{"status":{"nodeName":"{{{node}}}","activePods":{"{{{uid}}}":"{{{node}}}"},"migrationState":{"completed":true,"targetNode":"{{{node}}}"} } }"""
        );
    }

    private async Task<(string Uid, string Node)> PlaceAsync(string name)
    {
        var pod = await Kubectl.GetAsync("-n", lab.Name, "pod", name);
        return (pod["metadata"]!["uid"]!.GetValue<string>(), pod["spec"]!["nodeName"]!.GetValue<string>());
    }

    private async Task<string> UriAsync(string pod) =>
        $"qemu+unix:///session?socket=/proc/{(await Processes.OfPodAsync(Kubectl, lab.Name, pod))[0]}/root/run/libvirt/libvirt-sock";

    /// <summary>Removes the VM with its disk.</summary>
    public async Task RemoveAsync()
    {
        await Kubectl.RunAsync(
            "-n",
            lab.Name,
            "delete",
            $"virtualmachine/{Name}",
            $"virtualmachineinstance/{Name}",
            $"pod/{Pod}",
            "pvc/db-root",
            "--ignore-not-found",
            "--timeout=60s"
        );
        Directory.Delete(Path.Join(lab.Files, "db-root"), recursive: true);
    }

    /// <summary>Changes the instance, as KubeVirt or a user does.</summary>
    public Task ChangeAsync(string patch) =>
        Kubectl.RunAsync("-n", lab.Name, "patch", "virtualmachineinstance", Name, "--type=merge", "-p", patch);

    private async Task<string> UidAsync(string kind, string name) =>
        (await Kubectl.GetAsync("-n", lab.Name, kind, name))["metadata"]!["uid"]!.GetValue<string>();

    private static string Instance(string owner, string? status) =>
        $$"""
            apiVersion: kubevirt.io/v1
            kind: VirtualMachineInstance
            metadata:
              name: {{Name}}
              ownerReferences: [{ apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: {{Name}}, uid: {{owner}}, controller: true }]
            spec:
              domain:
                firmware: { uuid: {{Uuid}} }
                memory: { guest: 192Mi }
                devices: { disks: [{ name: root, disk: { bus: virtio } }] }
              volumes: [{ name: root, persistentVolumeClaim: { claimName: db-root } }]
            {{(status is null ? "" : $"status: {status}")}}
            """;

    /// <summary>The YAML of a pod like a launcher, whose domain has one disk.</summary>
    /// <param name="pod">Name of the pod.</param>
    /// <param name="vm">Name of the VM.</param>
    /// <param name="uuid">UUID of the domain.</param>
    /// <param name="ns">Namespace.</param>
    /// <param name="vmi">Uid of the instance.</param>
    /// <param name="claim">Claim of the disk.</param>
    /// <param name="labels">Additional labels, each preceded by a comma.</param>
    /// <param name="hook">A hook sidecar, as KubeVirt's annotation describes it: libvirt starts the domain that the hook returns.</param>
    public static string Launcher(
        string pod,
        string vm,
        string uuid,
        string ns,
        string vmi,
        string claim,
        string labels = "",
        JsonNode? hook = null
    ) =>
        $$"""
            apiVersion: v1
            kind: Pod
            metadata:
              name: {{pod}}
              labels: { kubevirt.io: virt-launcher, kubevirt.io/created-by: {{vmi}}, vm.kubevirt.io/name: {{vm}}{{labels}} }
              annotations: { kubectl.kubernetes.io/default-container: compute, kubectl.kubernetes.io/default-logs-container: compute }
            spec:
              restartPolicy: Never
              automountServiceAccountToken: false
              terminationGracePeriodSeconds: 1
              securityContext: { runAsNonRoot: true, runAsUser: 107, runAsGroup: 107, fsGroup: 107, seccompProfile: { type: RuntimeDefault } }
              containers:
                - name: compute
                  image: bgsnap/test-launcher:dev
                  imagePullPolicy: IfNotPresent
                  env:
                    - { name: VM_NAMESPACE, value: {{ns}} }
                    - { name: VM_NAME, value: {{vm}} }
                    - { name: VM_UUID, value: {{uuid}} }
                    - { name: VM_HOOKED, value: "{{(hook is null ? "" : "yes")}}" }
                  securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
                  volumeMounts:
                    - { name: run, mountPath: /run }
                    - { name: private, mountPath: /run/kubevirt-private }
                    - { name: root, mountPath: /run/kubevirt-private/vmi-disks/root }
                    - { name: hooks, mountPath: /hooks }
            {{(hook is null ? "" : Sidecar(hook))}}
              volumes:
                - { name: run, emptyDir: { medium: Memory } }
                - { name: private, emptyDir: { medium: Memory } }
                - { name: hooks, emptyDir: {} }
                - { name: root, persistentVolumeClaim: { claimName: {{claim}} } }
            """;

    private static string Sidecar(JsonNode hook) =>
        $"    - {{ name: hook-sidecar-0, image: {hook["image"]}, imagePullPolicy: {hook["imagePullPolicy"]}, args: "
        + $"{hook["args"]!.ToJsonString()}, "
        + "securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }, volumeMounts: [{ name: hooks, "
        + "mountPath: /var/run/kubevirt-hooks }] }";
}
