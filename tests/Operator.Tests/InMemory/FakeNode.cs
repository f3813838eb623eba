using System.Text.Json.Nodes;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.VolumeSnapshots;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>Scheduler, kubelets, volume binder and garbage collector in one: advances everything by one step on request.</summary>
internal sealed class FakeNode(InMemoryApi api)
{
    /// <summary>The node of pods that may run anywhere.</summary>
    internal const string AnyNode = "node-9";

    /// <summary>Why carriers cannot be scheduled; null: they can.</summary>
    internal string? Unschedulable { get; set; }

    /// <summary>Which carriers <see cref="Unschedulable"/> applies to, by name.</summary>
    internal Func<string, bool> UnschedulableAre { get; set; } = _ => true;

    /// <summary>Why carriers wait instead of running; null: they run.</summary>
    internal (string Reason, string Message)? Stuck { get; set; }

    /// <summary>The same for the pods of restored VMs.</summary>
    internal string? VmUnschedulable { get; set; }

    /// <summary>The same for the pods of restored VMs.</summary>
    internal (string Reason, string Message)? VmStuck { get; set; }

    /// <summary>The number of carriers to evict as soon as they are scheduled.</summary>
    internal int Evict { get; set; }

    internal async Task Tick()
    {
        foreach (PodSummary pod in (await api.List(Resources.Pods, null, null, default)).Items)
            await Tick(pod);
        await CollectGarbage();
    }

    private async Task Tick(PodSummary pod)
    {
        string ns = pod.Metadata.NamespaceProperty,
            name = pod.Metadata.Name;
        if (pod.Metadata.DeletionTimestamp is not null)
        {
            await api.Delete(Resources.Pods, ns, name, null, 0, default);
            return;
        }
        bool carrier = pod.Metadata.Labels?.ContainsKey(Names.ManagedByLabel) == true,
            vm = !carrier && pod.Metadata.Labels?.ContainsKey(Names.RestoreLabel) == true;
        if ((!carrier && !vm) || pod.Status?.Phase is "Running" or "Failed")
            return;
        JsonObject status;
        string container = pod.Spec!.Containers![0].Name;
        if (
            (
                vm ? VmUnschedulable
                : UnschedulableAre(name) ? Unschedulable
                : null
            ) is
            { } why
        )
        {
            status = new JsonObject
            {
                ["phase"] = "Pending",
                ["conditions"] = new JsonArray(
                    new JsonObject
                    {
                        ["type"] = "PodScheduled",
                        ["status"] = "False",
                        ["reason"] = "Unschedulable",
                        ["message"] = why,
                    }
                ),
            };
        }
        else if (pod.Spec?.NodeName is null)
        {
            await api.MergePatch(
                Resources.Pods,
                ns,
                name,
                null,
                new JsonObject { ["spec"] = new JsonObject { ["nodeName"] = NodeOf(name) } },
                default
            );
            status = Container(container, "waiting", new JsonObject { ["reason"] = "ContainerCreating" });
        }
        else if (carrier && Evict > 0)
        {
            Evict--;
            status = new JsonObject
            {
                ["phase"] = "Failed",
                ["reason"] = "Evicted",
                ["message"] = "The node was low on resource: memory.",
            };
        }
        else if ((vm ? VmStuck : Stuck) is { } stuck)
        {
            status = Container(container, "waiting", new JsonObject { ["reason"] = stuck.Reason, ["message"] = stuck.Message });
        }
        else
        {
            status = Container(container, "running", []);
            status["phase"] = "Running";
        }
        status["conditions"] ??= new JsonArray(new JsonObject { ["type"] = "PodScheduled", ["status"] = "True" });
        await api.MergePatch(Resources.Pods, ns, name, "status", new JsonObject { ["status"] = status }, default);
    }

    private string NodeOf(string pod) =>
        api.History.Last(c => c.Plural == "pods" && c.Object["metadata"]!["name"]!.GetValue<string>() == pod)
            .Object["spec"]
            ?["affinity"]?["nodeAffinity"]?["requiredDuringSchedulingIgnoredDuringExecution"]?["nodeSelectorTerms"]?[0]?["matchFields"]?[
                0
            ]?["values"]?[0]?.GetValue<string>()
        ?? AnyNode;

    private static JsonObject Container(string name, string state, JsonObject detail) =>
        new()
        {
            ["phase"] = "Pending",
            ["containerStatuses"] = new JsonArray(
                new JsonObject
                {
                    ["name"] = name,
                    ["containerID"] = state == "running" ? "containerd://c0ffee" : null,
                    ["state"] = new JsonObject { [state] = detail },
                }
            ),
        };

    private async Task CollectGarbage()
    {
        HashSet<string> uids =
        [
            .. (await api.List(Resources.Snapshots, null, null, default)).Items.Select(s => s.Metadata.Uid),
            .. (await api.List(Resources.Restores, null, null, default)).Items.Select(r => r.Metadata.Uid),
        ];
        foreach (
            SnapshotTask t in (await api.List(Resources.Tasks, null, null, default)).Items.Where(t =>
                t.Metadata.OwnerReferences?.All(o => !uids.Contains(o.Uid)) == true
            )
        )
            await api.Delete(Resources.Tasks, t.Metadata.NamespaceProperty, t.Metadata.Name, null, null, default);
        foreach (
            PodSummary p in (await api.List(Resources.Pods, null, null, default)).Items.Where(p =>
                p.Metadata.OwnerReferences?.All(o => !uids.Contains(o.Uid)) == true && p.Metadata.DeletionTimestamp is null
            )
        )
            await api.Delete(Resources.Pods, p.Metadata.NamespaceProperty, p.Metadata.Name, null, null, default);
        foreach (
            var v in api.NotServed.Count > 0
                ? []
                : (await api.List(VolumeSnapshotKinds.Snapshots, null, null, default)).Items.Where(v =>
                    v.Metadata.OwnerReferences?.All(o => !uids.Contains(o.Uid)) == true
                )
        )
            await api.Delete(VolumeSnapshotKinds.Snapshots, v.Metadata.NamespaceProperty, v.Metadata.Name, null, null, default);
        foreach (
            var c in (await api.List(Kube.CoreResources.Claims, null, null, default)).Items.Where(c =>
                c.Metadata.OwnerReferences?.All(o => !uids.Contains(o.Uid)) == true
            )
        )
            await api.Delete(Kube.CoreResources.Claims, c.Metadata.NamespaceProperty, c.Metadata.Name, null, null, default);
    }
}
