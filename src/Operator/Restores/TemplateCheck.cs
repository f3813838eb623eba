using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using Bgsnap.Vocabulary;
using k8s.Models;

namespace Bgsnap.Operator.Restores;

/// <summary>
/// Reads a template's pod and refuses what its author may not be allowed to create: the operator creates the pod with its own rights. It
/// also refuses fields that this version does not know, because it cannot tell what they would permit.
/// </summary>
internal static class TemplateCheck
{
    private const string Remedy = "remove it, or start the pod yourself and name it in spec.target.pod";

    /// <summary>The pod's spec.</summary>
    /// <exception cref="TerminalException">It is not a pod's spec, or it asks for more than a restore may grant.</exception>
    public static V1PodSpec Read(JsonObject spec)
    {
        V1PodSpec read;
        try
        {
            read = spec.Deserialize(CoreResources.PodSpec)!;
        }
        catch (JsonException e)
        {
            throw Refuse(Reasons.TemplateInvalid, $"spec{e.Path?.TrimStart('$')} has the wrong type", "correct it");
        }
        if (Unknown(spec, JsonSerializer.SerializeToNode(read, CoreResources.PodSpec), "spec") is { } path)
            throw Refuse(Reasons.TemplateInvalid, $"{path} is not a pod field that this version of bgsnap knows", "correct or remove it");
        if (read.Containers is not { Count: > 0 })
            throw Refuse(Reasons.TemplateInvalid, "spec.containers is empty", "add the container with QEMU");
        if (Refusal(read) is { } what)
            throw Refuse(Reasons.TemplateRefused, what, Remedy);
        return read;
    }

    // The first reason for a refusal, or null.
    private static string? Refusal(V1PodSpec spec)
    {
        if (spec.HostNetwork == true)
            return "spec.hostNetwork is set";
        if (spec.HostPID == true)
            return "spec.hostPID is set";
        if (spec.HostIPC == true)
            return "spec.hostIPC is set";
        if (!string.IsNullOrEmpty(spec.NodeName))
            return "spec.nodeName is set, which bypasses the scheduler (spec.nodeSelector does not)";
        if (spec.EphemeralContainers is { Count: > 0 })
            return "spec.ephemeralContainers is set";
        if (spec.Volumes?.FirstOrDefault(v => v.HostPath is not null) is { } volume)
            return $"volume {volume.Name} is a hostPath";
        V1PodSecurityContext? pod = spec.SecurityContext;
        if (pod?.Sysctls is { Count: > 0 })
            return "spec.securityContext.sysctls is set";
        if (pod?.WindowsOptions?.HostProcess == true)
            return "spec.securityContext.windowsOptions.hostProcess is set";
        if (pod?.SeccompProfile?.Type == "Unconfined" || pod?.AppArmorProfile?.Type == "Unconfined")
            return "spec.securityContext is Unconfined";
        return (spec.InitContainers ?? []).Concat(spec.Containers).Select(Refusal).FirstOrDefault(w => w is not null);
    }

    private static string? Refusal(V1Container c)
    {
        V1SecurityContext? s = c.SecurityContext;
        if (s?.Privileged == true)
            return $"container {c.Name} is privileged";
        if (s?.Capabilities?.Add is { Count: > 0 } added)
            return $"container {c.Name} adds capability {added[0]}";
        if (s?.ProcMount is { } proc && proc != "Default")
            return $"container {c.Name} has procMount {proc}";
        if (s?.WindowsOptions?.HostProcess == true)
            return $"container {c.Name} is a host process";
        if (s?.SeccompProfile?.Type == "Unconfined" || s?.AppArmorProfile?.Type == "Unconfined")
            return $"container {c.Name} is Unconfined";
        return c.Ports?.Any(p => p.HostPort is > 0) == true ? $"container {c.Name} has a hostPort" : null;
    }

    // The path of a field that was lost when the spec was read, or null.
    private static string? Unknown(JsonNode? before, JsonNode? after, string path)
    {
        if (before is JsonObject o)
        {
            foreach ((string name, JsonNode? value) in o)
            {
                if (value is null)
                    continue;
                if (after is not JsonObject read || read[name] is not { } known)
                    return $"{path}.{name}";
                if (Unknown(value, known, $"{path}.{name}") is { } below)
                    return below;
            }
        }
        else if (before is JsonArray a)
        {
            if (after is not JsonArray read || read.Count != a.Count)
                return path;
            for (int i = 0; i < a.Count; i++)
                if (Unknown(a[i], read[i], $"{path}[{i}]") is { } below)
                    return below;
        }
        return null;
    }

    /// <summary>A refusal that names what is wrong with the template and how to correct it.</summary>
    public static TerminalException Refuse(string reason, string what, string remedy) =>
        new(reason, $"spec.target.template.pod: {what}: {remedy}, then create another restore");
}
