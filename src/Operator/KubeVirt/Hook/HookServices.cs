using System.Text.Json;
using System.Xml;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.KubeVirt.Hook.CallbacksApi;
using Bgsnap.Operator.KubeVirt.Hook.InfoApi;
using Google.Protobuf;
using Grpc.Core;

namespace Bgsnap.Operator.KubeVirt.Hook;

/// <summary>Tells KubeVirt which hooks this sidecar has.</summary>
internal sealed class InfoService : Info.InfoBase
{
    /// <summary>KubeVirt's name of the hook.</summary>
    internal const string OnDefineDomain = "OnDefineDomain";

    /// <inheritdoc/>
    public override Task<InfoResult> Info(InfoParams request, ServerCallContext context)
    {
        InfoResult result = new() { Name = "bgsnap" };
        result.Versions.Add("v1alpha2");
        result.HookPoints.Add(new HookPoint { Name = OnDefineDomain, Priority = 0 });
        return Task.FromResult(result);
    }
}

/// <summary>The hook: KubeVirt calls it once, before it gives the domain to libvirt.</summary>
internal sealed class CallbacksService : Callbacks.CallbacksBase
{
    /// <inheritdoc/>
    public override Task<OnDefineDomainResult> OnDefineDomain(OnDefineDomainParams request, ServerCallContext context)
    {
        try
        {
            string domain = request.DomainXML.ToStringUtf8();
            if (CapturedDomain(request.Vmi) is { } captured)
                domain = DomainHook.Apply(domain, captured);
            return Task.FromResult(new OnDefineDomainResult { DomainXML = ByteString.CopyFromUtf8(domain) });
        }
        catch (Exception e) when (e is XmlException or JsonException)
        {
            throw new RpcException(
                new Status(StatusCode.InvalidArgument, $"the domain or the VirtualMachineInstance cannot be read: {e.Message}")
            );
        }
    }

    private static string? CapturedDomain(ByteString vmi)
    {
        using JsonDocument document = JsonDocument.Parse(vmi.Memory);
        JsonElement? found = document.RootElement;
        foreach (string name in (ReadOnlySpan<string>)["metadata", "annotations", Names.CapturedDomainAnnotation])
        {
            found = Member(found.Value, name);
            if (found is null)
                return null;
        }
        return found is { ValueKind: JsonValueKind.String } text
            ? Text(text)
            : throw new JsonException($"annotation {Names.CapturedDomainAnnotation} is not a string");
    }

    /// <summary>A member of an object; null: it is missing or null.</summary>
    private static JsonElement? Member(JsonElement json, string name) =>
        json.ValueKind != JsonValueKind.Object ? throw new JsonException($"the parent of {name} is not an object")
        : json.TryGetProperty(name, out JsonElement member) && member.ValueKind != JsonValueKind.Null ? member
        : null;

    private static string Text(JsonElement json)
    {
        try
        {
            return json.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw new JsonException(e.Message, e); // an unpaired surrogate
        }
    }
}
