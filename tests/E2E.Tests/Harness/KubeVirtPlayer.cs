using System.Net.Sockets;
using System.Text.Json.Nodes;
using Bgsnap.Operator.KubeVirt.Hook.CallbacksApi;
using Bgsnap.Operator.KubeVirt.Hook.InfoApi;
using Google.Protobuf;
using Grpc.Net.Client;

namespace Bgsnap.E2E.Tests.Harness;

/// <summary>
/// Plays KubeVirt for a VirtualMachine that the operator creates: virt-controller's instance and launcher pod with the hook sidecars of the
/// template, and virt-launcher's calls to them (pkg/hooks/manager.go: Info within a second, then OnDefineDomain). libvirt starts the domain
/// of their answer.
/// </summary>
public sealed class KubeVirtPlayer(ClusterFixture cluster, Lab lab)
{
    private Kubectl Kubectl => cluster.Kubectl;

    /// <summary>Name of the launcher pod that it creates for a VM.</summary>
    public static string Pod(string vm) => $"virt-launcher-{vm}-r7k2m";

    /// <summary>Waits until a VM should stop, and ends its instance.</summary>
    /// <param name="vm">The VM.</param>
    /// <param name="pod">Its launcher pod.</param>
    public async Task StopAsync(string vm, string pod)
    {
        await Kubectl.UntilAsync(
            "a VirtualMachine that is to stop",
            v => v["spec"]!["runStrategy"]!.GetValue<string>() == "Halted",
            DiskMachine.Limit,
            "-n",
            lab.Name,
            "virtualmachine",
            vm
        );
        await Kubectl.RunAsync("-n", lab.Name, "delete", $"virtualmachineinstance/{vm}", $"pod/{pod}", "--timeout=60s");
    }

    /// <summary>Waits until a VM should run, and starts it.</summary>
    /// <returns>The VM's template at the creation of the instance.</returns>
    public async Task<JsonNode> StartAsync(string vm)
    {
        var machine = await Kubectl.UntilAsync(
            "a VirtualMachine that is to run",
            v => v["spec"]!["runStrategy"]!.GetValue<string>() is "Once" or "Always",
            DiskMachine.Limit,
            "-n",
            lab.Name,
            "virtualmachine",
            vm
        );
        var template = machine["spec"]!["template"]!.DeepClone();
        var spec = (JsonObject)template["spec"]!.DeepClone();
        var firmware = spec["domain"]!["firmware"] as JsonObject ?? [];
        var uuid = (firmware["uuid"] ??= Guid.NewGuid().ToString()).GetValue<string>();
        JsonObject instance = new()
        {
            ["apiVersion"] = "kubevirt.io/v1",
            ["kind"] = "VirtualMachineInstance",
            ["metadata"] = new JsonObject
            {
                ["name"] = vm,
                ["labels"] = template["metadata"]!["labels"]!.DeepClone(),
                ["annotations"] = template["metadata"]!["annotations"]!.DeepClone(),
                ["ownerReferences"] = new JsonArray(
                    new JsonObject
                    {
                        ["apiVersion"] = "kubevirt.io/v1",
                        ["kind"] = "VirtualMachine",
                        ["name"] = vm,
                        ["uid"] = machine["metadata"]!["uid"]!.DeepClone(),
                        ["controller"] = true,
                    }
                ),
            },
            ["spec"] = spec,
            ["status"] = new JsonObject { ["phase"] = "Scheduling" },
        };
        await lab.ApplyAsync(instance.ToJsonString());
        var vmi = await Kubectl.GetAsync("-n", lab.Name, "virtualmachineinstance", vm);

        var hook = JsonNode
            .Parse(template["metadata"]!["annotations"]!["hooks.kubevirt.io/hookSidecars"]!.GetValue<string>())!
            .AsArray()
            .Single()!;
        var claim = spec["volumes"]!.AsArray().Single(v => v!["name"]!.GetValue<string>() == "root")!["persistentVolumeClaim"]![
            "claimName"
        ]!.GetValue<string>();
        var labels = string.Concat(((JsonObject)template["metadata"]!["labels"]!).Select(l => $", {l.Key}: \"{l.Value}\""));
        await lab.ApplyAsync(
            KubeVirtMachine.Launcher(Pod(vm), vm, uuid, lab.Name, vmi["metadata"]!["uid"]!.GetValue<string>(), claim, labels, hook)
        );
        await Kubectl.RunAsync("-n", lab.Name, "wait", "--for=condition=Ready", $"pod/{Pod(vm)}", "--timeout=120s");
        var pod = await Kubectl.GetAsync("-n", lab.Name, "pod", Pod(vm));
        await DefineAsync(vm, uuid, pod["metadata"]!["uid"]!.GetValue<string>(), vmi);
        return template;
    }

    private async Task DefineAsync(string vm, string uuid, string pod, JsonNode vmi)
    {
        // Use a short name: the kernel limits paths of sockets to 107 characters.
        var hooks = Path.Join(lab.Files, "hooks");
        Directory.CreateSymbolicLink(hooks, Path.Join(ClusterFixture.State, $"kubelet/pods/{pod}/volumes/kubernetes.io~empty-dir/hooks"));
        var socket = Path.Join(hooks, "bgsnap.sock");
        for (var i = 0; !File.Exists(socket); i++, await Task.Delay(100))
            Assert.True(i < 600, "the hook sidecar made no socket");

        using GrpcChannel channel = GrpcChannel.ForAddress("http://hook", new GrpcChannelOptions { HttpHandler = Over(socket) });
        var info = await new Info.InfoClient(channel).InfoAsync(new InfoParams(), deadline: DateTime.UtcNow.AddSeconds(5));
        Assert.Equal(
            ("bgsnap", "v1alpha2", "OnDefineDomain"),
            (info.Name, Assert.Single(info.Versions), Assert.Single(info.HookPoints).Name)
        );
        var domain = (await File.ReadAllTextAsync(Path.Join(Repository.Root, "tests", "launcher-pod", "domain.xml")))
            .Replace("@NAME@", $"{lab.Name}_{vm}", StringComparison.Ordinal)
            .Replace("@UUID@", uuid, StringComparison.Ordinal);
        var answer = await new Callbacks.CallbacksClient(channel).OnDefineDomainAsync(
            new OnDefineDomainParams { DomainXML = ByteString.CopyFromUtf8(domain), Vmi = ByteString.CopyFromUtf8(vmi.ToJsonString()) },
            deadline: DateTime.UtcNow.AddSeconds(10)
        );
        await File.WriteAllTextAsync(Path.Join(hooks, "new.xml"), answer.DomainXML.ToStringUtf8());
        File.Move(Path.Join(hooks, "new.xml"), Path.Join(hooks, "domain.xml"));
    }

    private static SocketsHttpHandler Over(string socket) =>
        new()
        {
            ConnectCallback = async (_, stop) =>
            {
                Socket connection = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await connection.ConnectAsync(new UnixDomainSocketEndPoint(socket), stop);
                    return new NetworkStream(connection, ownsSocket: true);
                }
                catch
                {
                    connection.Dispose();
                    throw;
                }
            },
        };
}
