using System.Text.Json.Nodes;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>
/// A VirtualMachine as KubeVirt keeps it, by hand: KubeVirt itself is not there. Its pod has what a launcher has as far as a capture notices, with a real
/// libvirt and QEMU in it.
/// </summary>
public sealed class KubeVirtMachine(ClusterFixture cluster, Lab lab)
{
    public const string Name = "db", Pod = "virt-launcher-db-x2x4v", Uuid = "5d307ca9-b3ef-428c-8861-06e72d69f223";

    private Kubectl Kubectl => cluster.Kubectl;

    /// <summary>Whether KubeVirt's kinds are there.</summary>
    public static async Task<bool> IsServedAsync(ClusterFixture cluster) => (await cluster.Kubectl.TryAsync(null, "get", "--raw", "/apis/kubevirt.io/v1")).ExitCode == 0;

    /// <summary>Makes KubeVirt's kinds known, as far as the tests need them, and the image that stands for its launcher.</summary>
    public static async Task ServeAsync()
    {
        await ClusterFixture.LoadImagesAsync("test-launcher");
        await ClusterFixture.ScriptAsync("hack/cluster", TimeSpan.FromMinutes(2), ["crds", .. Directory.GetFiles(Path.Join(Repository.Root, "tests", "launcher-pod", "crds"))]);
    }

    /// <summary>A snapshot of it.</summary>
    public static string Snapshot(string name, string kind = "VirtualMachine", string more = "") =>
        Lab.Snapshot(name, Name, more: more).Replace("apiGroup: \"\", kind: Pod", $"apiGroup: kubevirt.io, kind: {kind}", StringComparison.Ordinal);

    /// <summary>Makes it, stopped.</summary>
    public Task MakeAsync() => lab.ApplyAsync($$"""
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
        """);

    /// <summary>Starts it and waits until its guest counts.</summary>
    public async Task StartAsync()
    {
        await lab.ClaimAsync("db-root");
        var vm = await UidAsync("virtualmachine", Name);
        await lab.ApplyAsync(Instance(vm, status: null));
        var vmi = await UidAsync("virtualmachineinstance", Name);
        await lab.ApplyAsync(Launcher(Pod, Name, Uuid, lab.Name, vmi, "db-root"));
        await Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", $"pod/{Pod}", "--timeout=120s");
        var pod = await Kubectl.GetAsync("-n", lab.Name, "pod", Pod);
        var node = pod["spec"]!["nodeName"]!.GetValue<string>();
        await lab.ApplyAsync(Instance(vm, $"{{ phase: Running, nodeName: {node}, activePods: {{ \"{pod["metadata"]!["uid"]!.GetValue<string>()}\": {node} }} }}"));
        await lab.CountsAsync(Pod);
    }

    /// <summary>It is lost, with its disk.</summary>
    public async Task RemoveAsync()
    {
        await Kubectl.RunAsync("-n", lab.Name, "delete", $"virtualmachine/{Name}", $"virtualmachineinstance/{Name}", $"pod/{Pod}", "pvc/db-root", "--ignore-not-found", "--timeout=60s");
        Directory.Delete(Path.Join(lab.Files, "db-root"), recursive: true);
    }

    /// <summary>KubeVirt, or a user, changes the instance.</summary>
    public Task ChangeAsync(string patch) => Kubectl.RunAsync("-n", lab.Name, "patch", "virtualmachineinstance", Name, "--type=merge", "-p", patch);

    private async Task<string> UidAsync(string kind, string name) => (await Kubectl.GetAsync("-n", lab.Name, kind, name))["metadata"]!["uid"]!.GetValue<string>();

    private static string Instance(string owner, string? status) => $$"""
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

    /// <summary>A pod like a launcher, whose domain has one disk.</summary>
    /// <param name="pod">Name of the pod.</param>
    /// <param name="vm">Name of the VM.</param>
    /// <param name="uuid">UUID of the domain.</param>
    /// <param name="ns">Namespace.</param>
    /// <param name="vmi">Uid of the instance.</param>
    /// <param name="claim">Claim of the disk.</param>
    /// <param name="labels">More labels, each with a comma before it.</param>
    /// <param name="hook">A hook sidecar, as KubeVirt's annotation asks for it: the domain is what it makes of it.</param>
    public static string Launcher(string pod, string vm, string uuid, string ns, string vmi, string claim, string labels = "", JsonNode? hook = null) => $$"""
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
        $"    - {{ name: hook-sidecar-0, image: {hook["image"]}, imagePullPolicy: {hook["imagePullPolicy"]}, args: {hook["args"]!.ToJsonString()}, "
        + "securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }, volumeMounts: [{ name: hooks, mountPath: /var/run/kubevirt-hooks }] }";
}
