using Bgsnap.Operator.KubeVirt.Hook;
using Bgsnap.Operator.KubeVirt.Hook.CallbacksApi;
using Google.Protobuf;
using Grpc.Core;

namespace Bgsnap.Operator.Tests.KubeVirt;

/// <summary>Whatever virt-launcher passes to the hook, it gets a domain or an error with a reason.</summary>
public sealed class HookServicesTests
{
    private const string Domain = "<domain><devices/></domain>";

    [Theory]
    [InlineData("{}")]
    [InlineData("""{"metadata": null}""")]
    [InlineData("""{"metadata": {"annotations": null}}""")]
    [InlineData("""{"metadata": {"annotations": {"other": 1, "bgsnap.io/captured-domain": null}}}""")]
    public async Task A_machine_that_does_not_wait_for_a_snapshot_is_left_alone(string vmi) =>
        Assert.Equal(Domain, await AskAsync(Domain, vmi));

    [Theory]
    [InlineData("", Domain)]
    [InlineData("[]", Domain)]
    [InlineData("5", Domain)]
    [InlineData("null", Domain)]
    [InlineData("""{"metadata": []}""", Domain)]
    [InlineData("""{"metadata": {"annotations": "x"}}""", Domain)]
    [InlineData("""{"metadata": {"annotations": {"ANNOTATION": 5}}}""", Domain)]
    [InlineData("""{"metadata": {"annotations": {"ANNOTATION": {}}}}""", Domain)]
    [InlineData("""{"metadata": {"annotations": {"ANNOTATION": "\ud800"}}}""", Domain)]
    [InlineData("""{"metadata": {"annotations": {"ANNOTATION": ""}}}""", Domain)]
    [InlineData("""{"metadata": {"annotations": {"ANNOTATION": "<domain/>"}}}""", "no XML")]
    public async Task Unreadable_input_is_reported_as_the_callers_error(string vmi, string domain)
    {
        RpcException e = await Assert.ThrowsAsync<RpcException>(() =>
            AskAsync(domain, vmi.Replace("ANNOTATION", Crds.V1Alpha1.Names.CapturedDomainAnnotation, StringComparison.Ordinal))
        );
        Assert.Equal(StatusCode.InvalidArgument, e.StatusCode);
        Assert.Contains("cannot be read", e.Status.Detail, StringComparison.Ordinal);
    }

    private static async Task<string> AskAsync(string domain, string vmi)
    {
        OnDefineDomainParams request = new() { DomainXML = ByteString.CopyFromUtf8(domain), Vmi = ByteString.CopyFromUtf8(vmi) };
        return (await new CallbacksService().OnDefineDomain(request, null!)).DomainXML.ToStringUtf8();
    }
}
