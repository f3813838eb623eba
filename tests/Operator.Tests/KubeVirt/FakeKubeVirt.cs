using System.Text.Json.Nodes;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Tests.InMemory;
using k8s.Models;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>
/// KubeVirt in memory, with what a restore needs: for a VM that should run it creates the instance and the launcher pod, and removes both
/// with the VM or when it is halted.
/// </summary>
internal sealed class FakeKubeVirt
{
    private readonly World _world;

    internal FakeKubeVirt(World world)
    {
        _world = world;
        world.Beside.Add(Tick);
    }

    internal const string Node = "node-7";

    /// <summary>Its message why it does not start VMs; null: it starts them.</summary>
    internal string? Refuses { get; set; }

    /// <summary>The instances that it starts fail at once.</summary>
    internal bool Fails { get; set; }

    /// <summary>It does nothing for now.</summary>
    internal bool Slow { get; set; }

    /// <summary>The VMs that it has started, with the template at that moment.</summary>
    internal List<JsonObject> Started { get; } = [];

    private async Task Tick()
    {
        foreach (
            RawObject vm in _world
                .All(KubeVirtKinds.Machines)
                .Where(v => v.Spec!["runStrategy"]?.ToString() is "Once" or "Always" || v.Spec["running"]?.ToString() == "true")
        )
            await Start(vm);
        foreach (
            RawObject vmi in _world
                .All(KubeVirtKinds.RawInstances)
                .Where(i => _world.All(KubeVirtKinds.Machines).All(m => m.Metadata.Name != i.Metadata.Name || IsHalted(m)))
        )
        {
            await _world.Api.Delete(KubeVirtKinds.RawInstances, World.Namespace, vmi.Metadata.Name, null, null, default);
            if (_world.Pod(LauncherOf(vmi)) is not null)
                await _world.Api.Delete(CoreResources.Pods, World.Namespace, LauncherOf(vmi), null, 0, default);
        }
    }

    private async Task Start(RawObject vm)
    {
        if (Slow || _world.All(KubeVirtKinds.RawInstances).Any(i => i.Metadata.Name == vm.Metadata.Name))
            return;
        if (Refuses is { } why)
        {
            await _world.Api.MergePatch(
                KubeVirtKinds.Machines,
                World.Namespace,
                vm.Metadata.Name,
                null,
                new JsonObject
                {
                    ["status"] = new JsonObject
                    {
                        ["conditions"] = new JsonArray(
                            new JsonObject
                            {
                                ["type"] = "Failure",
                                ["status"] = "True",
                                ["message"] = why,
                            }
                        ),
                    },
                },
                default
            );
            return;
        }
        await Run(vm);
    }

    /// <summary>Creates the instance and its pod from this copy of the VM.</summary>
    internal async Task Run(RawObject vm)
    {
        JsonObject template = (JsonObject)vm.Spec!["template"]!.DeepClone();
        Started.Add(template);
        RawObject vmi = KubeVirtObjects.Raw(
            "kubevirt.io/v1",
            KubeVirtKinds.Instance,
            vm.Metadata.Name,
            template["spec"]!.ToJsonString(),
            Fails ? """{"phase":"Failed"}""" : """{"phase":"Scheduling"}"""
        );
        vmi.Metadata.Labels = (template["metadata"]?["labels"] as JsonObject)?.ToDictionary(l => l.Key, l => l.Value!.ToString());
        vmi.Metadata.OwnerReferences =
        [
            new V1OwnerReference
            {
                ApiVersion = "kubevirt.io/v1",
                Kind = KubeVirtKinds.Machine,
                Name = vm.Metadata.Name,
                Uid = vm.Metadata.Uid,
                Controller = true,
            },
        ];
        vmi = await _world.Api.Create(KubeVirtKinds.RawInstances, vmi, default);
        await _world.AddPod(Launcher(vmi, LauncherOf(vmi), Node));
    }

    /// <summary>A launcher pod of an instance.</summary>
    internal static V1Pod Launcher(RawObject vmi, string name, string node) => TestObjects.VmPod(name, node, p =>
        {
            p.Metadata.Annotations = null;
            p.Metadata.Labels = new Dictionary<string, string>
            {
                [LauncherPod.Label] = LauncherPod.LabelValue,
                [LauncherPod.InstanceLabel] = vmi.Metadata.Uid,
            };
            p.Spec.Containers[0].Name = p.Status.ContainerStatuses[0].Name = LauncherPod.Container;
        });

    private static bool IsHalted(RawObject vm) =>
        vm.Spec!["runStrategy"]?.ToString() == "Halted" || vm.Spec["running"]?.ToString() == "false";

    internal static string LauncherOf(RawObject vmi) => $"virt-launcher-{vmi.Metadata.Name}";
}
