using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;

namespace Bgsnap.Crds.Tests.Client;

public sealed class ApiClientTests
{
    private const string ATask =
        """{"apiVersion":"bgsnap.io/v1alpha1","kind":"SnapshotTask","metadata":{"name":"t","namespace":"ns","uid":"u","resourceVersion":"7","creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"action":"Capture","nodeName":"n","directory":"d","carrier":{"podName":"p","podUID":"pu","container":"c"}},"status":{"phase":"Running","percent":40,"unknownToUs":[1]}}""";

    [Fact]
    public async Task Get_reads_one_object()
    {
        ScriptedHandler server = new(HttpStatusCode.OK, ATask);
        SnapshotTask task = await server.Client.Get(Resources.Tasks, "ns", "t", default);
        Assert.Equal(("GET", "/apis/bgsnap.io/v1alpha1/namespaces/ns/snapshottasks/t", null), (server.Method, server.Path, server.Body));
        Assert.Equal(
            ("t", "7", 40, "pu"),
            (task.Metadata.Name, task.Metadata.ResourceVersion, task.Status!.Percent, task.Spec.Carrier.PodUID)
        );
        Assert.Equal(new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc), task.Metadata.CreationTimestamp);
    }

    [Theory]
    [InlineData(null, null, "/apis/bgsnap.io/v1alpha1/snapshottasks?limit=500")]
    [InlineData("ns", null, "/apis/bgsnap.io/v1alpha1/namespaces/ns/snapshottasks?limit=500")]
    [InlineData(null, "bgsnap.io/node=n-1", "/apis/bgsnap.io/v1alpha1/snapshottasks?labelSelector=bgsnap.io%2Fnode%3Dn-1&limit=500")]
    public async Task List_reads_all_that_match(string? ns, string? labels, string path)
    {
        ScriptedHandler server = new(
            HttpStatusCode.OK,
            $$"""{"kind":"SnapshotTaskList","metadata":{"resourceVersion":"42"},"items":[{{ATask}}]}"""
        );
        ResourceList<SnapshotTask> list = await server.Client.List(Resources.Tasks, ns, labels, default);
        Assert.Equal(("GET", path), (server.Method, server.Path));
        Assert.Equal(("42", "t"), (list.Metadata.ResourceVersion, Assert.Single(list.Items).Metadata.Name));
    }

    [Fact]
    public async Task List_reads_on_until_the_last_page()
    {
        List<string> asked = [];
        ScriptedHandler server = new(
            (request, _) =>
            {
                asked.Add(request.RequestUri!.Query);
                string more = asked.Count < 3 ? $$""","continue":"a+{{asked.Count}}","remainingItemCount":9""" : "";
                return Task.FromResult(
                    new HttpResponseMessage(HttpStatusCode.OK)
                    {
                        Content = new StringContent(
                            $$"""{"metadata":{"resourceVersion":"42"{{more}}},"items":[{{ATask.Replace("\"t\"", $"\"t-{asked.Count}\"", StringComparison.Ordinal)}}]}"""
                        ),
                    }
                );
            }
        );
        ResourceList<SnapshotTask> list = await server.Client.List(Resources.Tasks, null, null, default);
        Assert.Equal(["?limit=500", "?limit=500&continue=a%2B1", "?limit=500&continue=a%2B2"], asked);
        Assert.Equal(["t-1", "t-2", "t-3"], list.Items.Select(i => i.Metadata.Name));
        Assert.Equal("42", list.Metadata.ResourceVersion);
    }

    [Fact]
    public async Task A_page_that_is_too_old_is_an_error_and_not_half_a_list()
    {
        int asked = 0;
        ScriptedHandler server = new(
            (_, _) =>
                Task.FromResult(
                    asked++ == 0
                        ? new HttpResponseMessage(HttpStatusCode.OK)
                        {
                            Content = new StringContent("""{"metadata":{"resourceVersion":"42","continue":"x"},"items":[]}"""),
                        }
                        : new HttpResponseMessage(HttpStatusCode.Gone)
                        {
                            Content = new StringContent("""{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"""),
                        }
                )
        );
        ApiException e = await Assert.ThrowsAsync<ApiException>(() => server.Client.List(Resources.Tasks, null, null, default));
        Assert.Equal(410, e.Code);
    }

    [Fact]
    public async Task Kinds_of_the_core_have_the_short_path()
    {
        ScriptedHandler server = new(HttpStatusCode.OK, """{"metadata":{"name":"p"},"status":{"phase":"Running"}}""");
        await server.Client.Get(Resources.Pods, "ns", "p", default);
        Assert.Equal("/api/v1/namespaces/ns/pods/p", server.Path);
    }

    [Fact]
    public async Task Create_posts_to_the_collection_and_leaves_out_what_is_not_set()
    {
        ScriptedHandler server = new(HttpStatusCode.Created, ATask);
        SnapshotTask task = Samples.Task("t", "");
        task.Metadata.ResourceVersion = null;
        await server.Client.Create(Resources.Tasks, task, default);
        Assert.Equal(
            ("POST", "/apis/bgsnap.io/v1alpha1/namespaces/ns/snapshottasks", "application/json"),
            (server.Method, server.Path, server.ContentType)
        );
        JsonNode body = JsonNode.Parse(server.Body!)!;
        Assert.Equal("SnapshotTask", body["kind"]!.GetValue<string>());
        Assert.DoesNotContain("null", server.Body!);
        Assert.Null(body["status"]);
    }

    [Theory]
    [InlineData(null, "/apis/bgsnap.io/v1alpha1/namespaces/ns/snapshottasks/t")]
    [InlineData("status", "/apis/bgsnap.io/v1alpha1/namespaces/ns/snapshottasks/t/status")]
    public async Task MergePatch_sends_the_patch_as_it_is(string? subresource, string path)
    {
        ScriptedHandler server = new(HttpStatusCode.OK, ATask);
        await server.Client.MergePatch(
            Resources.Tasks,
            "ns",
            "t",
            subresource,
            new JsonObject { ["status"] = new JsonObject { ["reason"] = null } },
            default
        );
        Assert.Equal(("PATCH", path, "application/merge-patch+json"), (server.Method, server.Path, server.ContentType));
        Assert.Equal("""{"status":{"reason":null}}""", server.Body);
    }

    [Fact]
    public async Task Delete_names_the_uid_and_the_grace()
    {
        ScriptedHandler server = new(HttpStatusCode.OK, """{"kind":"Status","status":"Success"}""");
        await server.Client.Delete(Resources.Pods, "ns", "p", "the-uid", 1, default);
        Assert.Equal(("DELETE", "/api/v1/namespaces/ns/pods/p", "application/json"), (server.Method, server.Path, server.ContentType));
        JsonNode body = JsonNode.Parse(server.Body!)!;
        Assert.Equal("the-uid", body["preconditions"]!["uid"]!.GetValue<string>());
        Assert.Equal(1, body["gracePeriodSeconds"]!.GetValue<int>());
        Assert.Equal(("DeleteOptions", "Background"), (body["kind"]!.GetValue<string>(), body["propagationPolicy"]!.GetValue<string>()));
    }

    [Fact]
    public async Task Delete_leaves_out_what_is_not_wanted()
    {
        ScriptedHandler server = new(HttpStatusCode.OK, """{"kind":"Status","status":"Success"}""");
        await server.Client.Delete(Resources.Pods, "ns", "p", null, null, default);
        Assert.DoesNotContain("preconditions", server.Body);
        Assert.DoesNotContain("gracePeriodSeconds", server.Body);
    }

    [Fact]
    public async Task Post_sends_anything()
    {
        ScriptedHandler server = new(HttpStatusCode.Created, """{"status":{"authenticated":true}}""");
        JsonElement answer = await server.Client.Post(
            "apis/authentication.k8s.io/v1/tokenreviews",
            new JsonObject { ["spec"] = 1 },
            RuntimeJson.Default.JsonElement,
            default
        );
        Assert.Equal(("POST", "/apis/authentication.k8s.io/v1/tokenreviews"), (server.Method, server.Path));
        Assert.True(answer.GetProperty("status").GetProperty("authenticated").GetBoolean());
    }

    [Theory]
    [InlineData(404, "NotFound", "snapshottasks \"t\" not found", "notfound")]
    [InlineData(409, "Conflict", "the object has been modified", "conflict")]
    [InlineData(409, "AlreadyExists", "snapshottasks \"t\" already exists", "exists")]
    [InlineData(422, "Invalid", "spec: Invalid value", "invalid")]
    [InlineData(403, "Forbidden", "exceeded quota", "invalid")]
    [InlineData(400, "BadRequest", "no", "invalid")]
    [InlineData(429, "TooManyRequests", "later", "")]
    [InlineData(500, "InternalError", "etcd", "")]
    [InlineData(503, "ServiceUnavailable", "no endpoints", "")]
    public async Task Refusals_become_exceptions_with_the_servers_words(int code, string reason, string message, string kind)
    {
        ScriptedHandler server = new(
            (HttpStatusCode)code,
            new JsonObject
            {
                ["kind"] = "Status",
                ["status"] = "Failure",
                ["reason"] = reason,
                ["message"] = message,
                ["code"] = code,
            }.ToJsonString()
        );
        ApiException e = await Assert.ThrowsAsync<ApiException>(() => server.Client.Get(Resources.Tasks, "ns", "t", default));
        Assert.Equal((code, reason, message), (e.Code, e.Reason, e.Message));
        Assert.Equal(
            kind,
            string.Join(
                ",",
                new[]
                {
                    e.IsNotFound ? "notfound" : "",
                    e.IsConflict ? "conflict" : "",
                    e.IsAlreadyExists ? "exists" : "",
                    e.IsInvalid ? "invalid" : "",
                }.Where(k => k.Length > 0)
            )
        );
    }

    [Fact]
    public async Task A_namespace_that_is_being_deleted_is_told_by_the_cause()
    {
        ScriptedHandler server = new(
            HttpStatusCode.Forbidden,
            """{"kind":"Status","reason":"Forbidden","message":"being terminated","code":403,"details":{"causes":[{"reason":"NamespaceTerminating","message":"x"}]}}"""
        );
        ApiException e = await Assert.ThrowsAsync<ApiException>(() => server.Client.Get(Resources.Tasks, "ns", "t", default));
        Assert.True(e.IsNamespaceTerminating);
    }

    [Theory]
    [InlineData(502, "<html><body>Bad Gateway</body></html>", "text/html")]
    [InlineData(404, "404 page not found\n", "text/plain")]
    [InlineData(404, "", "text/plain")]
    public async Task What_is_not_the_servers_own_answer_is_no_answer_about_the_object(int code, string body, string mediaType)
    {
        ScriptedHandler server = new((HttpStatusCode)code, body, mediaType);
        ApiException e = await Assert.ThrowsAsync<ApiException>(() => server.Client.Get(Resources.Tasks, "ns", "t", default));
        Assert.Equal(code, e.Code);
        Assert.False(e.IsNotFound, "a page that a proxy made does not say that the object is gone");
        Assert.Equal($"HTTP {code}", e.Message);
    }

    [Theory]
    [InlineData("<html>please log in</html>")]
    [InlineData("{\"metadata\":{\"name\":\"t\"")]
    [InlineData("")]
    public async Task A_good_code_with_a_bad_body_is_trouble_with_the_connection(string body)
    {
        ScriptedHandler server = new(HttpStatusCode.OK, body, "text/html");
        Exception e = await Assert.ThrowsAnyAsync<Exception>(() => server.Client.Get(Resources.Tasks, "ns", "t", default));
        Assert.True(ConnectionTrouble.Is(e), e.GetType().Name);
    }

    [Fact]
    public async Task A_null_is_no_object()
    {
        ScriptedHandler server = new(HttpStatusCode.OK, "null");
        await Assert.ThrowsAsync<HttpRequestException>(() => server.Client.Get(Resources.Tasks, "ns", "t", default));
    }

    [Fact]
    public async Task A_server_that_does_not_answer_is_given_up()
    {
        ScriptedHandler server = new(
            async (_, stop) =>
            {
                await Task.Delay(Timeout.Infinite, stop);
                throw new InvalidOperationException();
            }
        );
        ApiClient client = new(new HttpClient(server) { BaseAddress = new Uri("https://server/") }, TimeSpan.FromMilliseconds(50));
        HttpRequestException e = await Assert.ThrowsAsync<HttpRequestException>(() =>
            client.Get(Resources.Tasks, "ns", "t", default).WaitAsync(TimeSpan.FromSeconds(10))
        );
        Assert.Contains("did not answer", e.Message, StringComparison.Ordinal);
        Assert.Contains("snapshottasks/t", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_caller_that_stops_is_told_so()
    {
        ScriptedHandler server = new(
            async (_, stop) =>
            {
                await Task.Delay(Timeout.Infinite, stop);
                throw new InvalidOperationException();
            }
        );
        using CancellationTokenSource stop = new(30);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => server.Client.Get(Resources.Tasks, "ns", "t", stop.Token));
    }
}
