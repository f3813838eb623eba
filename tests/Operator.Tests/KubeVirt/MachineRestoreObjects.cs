using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.KubeVirt;
using Bgsnap.Operator.Shared;
using Bgsnap.Operator.Tests.InMemory;
using Bgsnap.Operator.Tests.Restores;
using k8s.Models;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>Objects to start a test of restores into KubeVirt with.</summary>
internal static class MachineRestoreObjects
{
    internal const string Mac = "02:00:00:aa:bb:cc",
        Name = "again";

    internal static MachineDescription Kept =>
        new()
        {
            Objects = """
                {"apiVersion":"v1","kind":"List","items":[
                  {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"db","namespace":"prod","uid":"old","labels":{"app":"db","kubevirt.io/size":"x"},"annotations":{"note":"kept","kubectl.kubernetes.io/last-applied-configuration":"{}"}},
                   "spec":{"runStrategy":"RerunOnFailure","instancetype":{"name":"u1"},"dataVolumeTemplates":[{"metadata":{"name":"db-root"}}],
                     "template":{"metadata":{"labels":{"tier":"db"},"annotations":{"hooks.kubevirt.io/hookSidecars":"[{\"image\":\"theirs\"}]"}},"spec":{"domain":{}}}}},
                  {"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"db","uid":"older"},
                   "spec":{"nodeSelector":{"vms":"yes"},"domain":{"machine":{"type":"q35"},"firmware":{"uuid":"UUID","serial":"s1"},"memory":{"guest":"4Gi"},
                     "devices":{"disks":[{"name":"root","disk":{"bus":"virtio"}},{"name":"hot","disk":{"bus":"scsi"}},{"name":"init","disk":{"bus":"virtio"}},{"name":"iso","cdrom":{"bus":"sata"}}],"interfaces":[{"name":"default","masquerade":{}}]}},
                     "volumes":[{"name":"root","dataVolume":{"name":"db-root"}},{"name":"hot","persistentVolumeClaim":{"claimName":"db-hot","hotpluggable":true}},{"name":"init","cloudInitNoCloud":{"userData":"#"}},{"name":"iso","persistentVolumeClaim":{"claimName":"iso"}}]}}
                ]}
                """.Replace("UUID", KubeVirtObjects.Uuid, StringComparison.Ordinal),
            DomainXml =
                "<domain><os><type machine='pc-q35-rhel9.6.0'>hvm</type></os><devices><interface type='ethernet'><mac "
                + $"address='{Mac}'/><alias name='ua-default'/></interface></devices></domain>",
        };

    internal static async Task<World> WithKept(string? image = "bgsnap/operator:test", string[]? disks = null)
    {
        World world = await RestoreObjects.WithSnapshot(
            new OperatorOptions { AgentImage = "bgsnap/agent:test", HookImage = image },
            [.. (disks ?? ["ua-root", "ua-hot", "ua-init"]).Select(d => RestoreObjects.Disk(d, "/run/" + d))]
        );
        world.Agents.Machine = Kept;
        return world;
    }

    internal static VMBackgroundRestore Restore(string name, Action<KubeVirtTarget>? change = null)
    {
        KubeVirtTarget target = new() { Name = Name };
        change?.Invoke(target);
        return new VMBackgroundRestore
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = World.Namespace },
            Spec = new RestoreSpec
            {
                SnapshotName = "s",
                Target = new RestoreTarget { VirtualMachine = target },
            },
        };
    }

    /// <summary>Asserts that nothing of a restore is left except its object.</summary>
    internal static void AssertNothingLeft(World world)
    {
        Assert.Empty(world.All(KubeVirtKinds.Machines));
        Assert.Empty(world.All(KubeVirtKinds.RawInstances));
        Assert.Equal([TestObjects.Claim], world.All(CoreResources.Claims).Select(c => c.Metadata.Name));
        Assert.Empty(world.All(Resources.Tasks));
        Assert.Empty(world.Carriers);
    }
}
